"""How a scoring service is guarded: by the recipe that `trimtab up` was given, not by whichever release serves.

A rollback to a release of before there was auth must not open the service, nor one of before a name was redacted bring
that name back into the journal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.recipe.schema import Recipe


@dataclass(frozen=True)
class Guard:
    """What of a recipe's `serving` the service is told on its command line.

    Attributes:
        auth: whether a token is needed.
        certificate, key: of TLS, absolute paths; "" without.
        journal: JSON of `serving.journal`; "" leaves it to the release.
    """

    auth: bool = False
    certificate: str = ""
    key: str = ""
    journal: str = ""

    @classmethod
    def of(cls, recipe: Recipe, file: Path) -> Guard:
        """That of a recipe.

        Args:
            file: the recipe's; paths in it are relative to its folder.
        """
        serving, folder = recipe.serving, file.resolve().parent
        if serving.backend == "mlflow":
            return cls()
        tls = serving.tls
        return cls(
            serving.auth,
            str(folder / tls.certificate) if tls is not None else "",
            str(folder / tls.key) if tls is not None else "",
            json.dumps(serving.journal.model_dump(mode="json", exclude={"retention_days"}), separators=(",", ":")),
        )

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Guard:
        """The inverse of `to_json`."""
        return cls(**found)

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    def check(self) -> None:
        """See that a service can be started so, before it is.

        Raises:
            StateError: certificate or key cannot be used.
        """
        from trimtab.serving.tls import checked

        if self.certificate:
            checked(Path(self.certificate), Path(self.key))

    @property
    def scheme(self) -> str:
        """Of the service's address."""
        return "https" if self.certificate else "http"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of the service's command line."""
        tls = ("--tls-certificate", self.certificate, "--tls-key", self.key) if self.certificate else ()
        journal = ("--journal", self.journal) if self.journal else ()
        return (*(("--auth",) if self.auth else ()), *tls, *journal)
