"""Which release is meant: `digits`, `digits@challenger`, `digits/3`, or the same as a models:/ URI.

No mlflow import: an alias is asked for over REST.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trimtab.errors import RegistryError
from trimtab.registry.follow import version_under

CHAMPION = "champion"  # as in `alias`, which imports mlflow
SCHEME = "models:/"
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,100}")
_FIX = "e.g. digits, digits@champion, digits/3, models:/digits@champion"


@dataclass(frozen=True)
class Reference:
    """A release by an alias, whatever version has it, or by one version; exactly one of the two is set."""

    name: str
    alias: str | None = CHAMPION
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read what a person or an MLflow client wrote.

        Raises:
            RegistryError: another scheme than models:/, a stage, a logged model's id, or a name that cannot be one.
        """
        from trimtab.registry.names import release_name  # brings the recipe, which a scoring service has no use for

        rest = text.removeprefix(SCHEME)
        if ":" in rest:
            raise RegistryError("is no registered release", where=text, fix=_FIX)
        name, mark, which = rest.partition("@" if "@" in rest else "/")
        name = release_name(name)
        if not mark:
            return cls(name)
        if mark == "@":
            if not _ALIAS.fullmatch(which):
                raise RegistryError(f"{which!r} is no alias", where=text, fix=_FIX)
            return cls(name, which)
        if not (which.isascii() and which.isdecimal() and int(which) > 0):
            raise RegistryError(f"{which!r} is no version number; stages are not looked up", where=text, fix=_FIX)
        return cls(name, None, int(which))

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.name}@{self.alias}" if self.version is None else f"{self.name}/{self.version}"


def resolve(tracking_uri: str, reference: Reference) -> int:
    """The version that is meant now; whether a version given by number exists is seen when it is fetched.

    Raises:
        RegistryError: no version has the alias, or the server does not answer.
    """
    if reference.version is not None:
        return reference.version
    found = version_under(tracking_uri, reference.name, str(reference.alias))
    if found is None:
        raise RegistryError(
            f"no version has the alias {reference.alias!r}",
            where=reference.name,
            fix="make a champion with `trimtab release`, or name a version: NAME/3",
        )
    return found
