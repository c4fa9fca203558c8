"""The headers of a request, read once."""

from __future__ import annotations

from collections.abc import Iterable


class Asked(dict[str, str]):
    """Name in lower case → value, of headers that came more than once the first; asked for in any case.

    A request's headers are asked for a dozen times, and looking through a list each time takes as long as a small
    model.
    """

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__()
        for name, value in raw:
            self.setdefault(name.decode("latin-1"), value.decode("latin-1"))

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """A header's value."""
        return dict.get(self, name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and dict.__contains__(self, name.lower())
