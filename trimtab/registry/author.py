"""Who acts, for the promotion log."""

from __future__ import annotations

import getpass


def author() -> str:
    """The account this process runs under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
