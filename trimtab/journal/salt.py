"""The secret that makes hashes of journalled values useless to who has the journal alone."""

from __future__ import annotations

import secrets
from pathlib import Path

from trimtab.errors import StateError
from trimtab.store import os_lock, write_atomic

BYTES = 32


def salt(path: Path) -> bytes:
    """The salt of a state directory, made on first use; equal values hash equally as long as it is kept.

    Args:
        path: of its file, 0600.

    Raises:
        StateError: it cannot be read or written, is not whole, or others than its owner can read it.
    """
    try:
        if not path.exists():
            with os_lock(path.with_name(f".{path.name}.lock"), wait=True, what="the salt"):
                if not path.exists():
                    write_atomic(path, secrets.token_bytes(BYTES))  # through mkstemp: 0600 from its first byte on
        mode, found = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise StateError(f"cannot be used ({error.strerror})", where=str(path)) from None
    if mode & 0o077:
        raise StateError("others can read it", where=str(path), fix=f"chmod 600 {path}")
    if len(found) != BYTES:
        raise StateError(
            f"has {len(found)} bytes, not {BYTES}",
            where=str(path),
            fix="restore it, or remove it: then values hash otherwise from now on",
        )
    return found
