"""Names of releases at the registry's door: the recipe's check once more, for names that come from elsewhere."""

from __future__ import annotations

from pathlib import Path

from trimtab.errors import RegistryError
from trimtab.recipe import names


def release_name(name: str) -> str:
    """Check a release name and give it back in Unicode normal form C.

    Raises:
        RegistryError: it has other characters than letters, digits, ".", "_", "-", or "..", or is too long.
    """
    try:
        return names.release_name(name)
    except ValueError as error:
        raise RegistryError(f"{name[:300]!r} {error}", where="release name", fix=names.ALLOWED) from None


def lock_file(locks: Path, what: str, name: str) -> Path:
    """The file by which one at a time is at it on this machine: "register" or "promote" of a release name."""
    return locks / f"{what}-{name}.lock"
