"""Names of releases: one check, at the recipe and before anything is registered, so that every place means one model.

MLflow takes names that it cannot open again or that open another model: "/" and ":" split a models:/ URI, "%6f" is
decoded on the way, ".." leaves a folder, a trailing space is lost in some databases, two Unicode spellings of "é" are
two models, and a Cyrillic "а" looks like a Latin one. What is allowed is therefore stated, and short.
"""

from __future__ import annotations

import unicodedata

PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
LONGEST = 100  # MLflow takes 256; the name is part of file names, of keys in the ledger and of deployments in Prefect
ALLOWED = 'use 1 to 100 of the characters A-Z a-z 0-9 "." "_" "-", beginning with a letter or digit, without ".."'
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def release_name(name: str) -> str:
    """The name in Unicode normal form C.

    Raises:
        ValueError: what is wrong with it; a character that looks like an allowed one is named by its Unicode name.
    """
    normal = unicodedata.normalize("NFC", name)
    if strange := sorted(set(normal) - _PLAIN):
        raise ValueError("has " + ", ".join(_named(character) for character in strange[:5]))
    if not normal:
        raise ValueError("is empty")
    if len(normal) > LONGEST:
        raise ValueError(f"has {len(normal)} characters, more than {LONGEST}")
    if not normal[0].isalnum():
        raise ValueError(f"begins with {normal[0]!r}")
    if ".." in normal:
        raise ValueError('has ".."')
    return normal


def _named(character: str) -> str:
    """E.g. "'/'"; beyond ASCII with its Unicode name, because it may look like an allowed one."""
    if character.isascii():
        return repr(character)
    return f"{character!r} (U+{ord(character):04X} {unicodedata.name(character, 'without a name')})"
