"""Names of releases: one check, before anything is registered, so that every place opens the model that was meant.

MLflow takes names that it cannot open again or that open another model: "/" and ":" split a models:/ URI, "%6f" is
decoded on the way, a trailing space is lost in some databases, two Unicode spellings of "é" are two models.
"""

from __future__ import annotations

import re
import unicodedata

from trimtab.errors import RegistryError

ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def release_name(name: str) -> str:
    """Check a release name and give it back in Unicode normal form C.

    Raises:
        RegistryError: it has other characters than letters, digits, ".", "_", "-", or is too long.
    """
    normal = unicodedata.normalize("NFC", name)
    if not ALLOWED.fullmatch(normal):
        strange = sorted({character for character in normal if not re.match(r"[A-Za-z0-9._-]", character)})
        reason = f"has {strange}" if strange else "is empty, too long, or does not begin with a letter or digit"
        raise RegistryError(
            f"{name!r} {reason}",
            where="release name",
            fix='use 1 to 100 of the characters A-Z a-z 0-9 "." "_" "-", beginning with a letter or digit',
        )
    return normal
