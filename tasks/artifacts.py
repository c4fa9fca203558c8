"""Names of Prefect artifacts."""

from __future__ import annotations


def artifact_key(kind: str, name: str) -> str:
    """Prefect takes lower-case letters, digits and dashes only."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{kind}-{name}".lower())
