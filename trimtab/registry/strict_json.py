"""JSON from a release, read strictly: bounded, without duplicate keys, NaN or bottomless nesting.

Python keeps the last of two equal keys and other readers the first: a file that two readers understand differently
can be signed as one thing and loaded as another.
"""

from __future__ import annotations

import json
from typing import Any

LIMIT = 4 << 20  # bytes; a manifest of 10,000 files has 1.5 MB


class NotStrict(ValueError):
    """The text is not JSON of this kind; the message says why."""


def parse(text: bytes, limit: int = LIMIT) -> Any:
    """The value of a JSON text (UTF-8).

    Raises:
        NotStrict: longer than `limit` bytes, not JSON, a key twice in one object, NaN or infinity, or nested too deep.
    """
    if len(text) > limit:
        raise NotStrict(f"it has {len(text)} bytes, more than {limit}")
    try:
        return json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise NotStrict("it is nested too deep") from None
    except NotStrict:
        raise
    except ValueError as error:
        raise NotStrict(str(error)) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NotStrict(f"it has the key {twice!r} twice")
    return value


def _constant(word: str) -> Any:
    raise NotStrict(f"it has {word}, which is not JSON")
