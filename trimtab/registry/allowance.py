"""Whether a hand may make champion what has no record of the gate: the recipe's `registry.allow_unverified`.

It is kept in the ledger (stream "policies/<name>", {allow_unverified, who}), because whoever settles what a hand did,
also a command that is given no recipe, must come to the same answer; and who loosened the rule stays to be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.ledger import Ledger

if TYPE_CHECKING:
    from trimtab.registry.connection import Registry


def stream(name: str) -> str:
    """Ledger stream of what is allowed for a release."""
    return f"policies/{name}"


def is_allowed(ledger: Ledger, name: str) -> bool:
    """What was said last; False where nothing was."""
    entries = ledger.read(stream(name))
    return bool(entries and entries[-1].entry["allow_unverified"])


def allow(ledger: Ledger, name: str, allowed: bool, who: str) -> bool:
    """Say whether it is allowed from now on; what is so already is not written again.

    Returns:
        Whether something changed.

    Raises:
        Conflict: somebody else said something at the same moment. StateError: the ledger cannot be used.
    """
    if is_allowed(ledger, name) == allowed:
        return False
    ledger.record(stream(name), {"allow_unverified": allowed, "who": who}, ledger.head(stream(name)))
    return True


def refusal(registry: Registry, name: str, version: int) -> str | None:
    """Why a version that a hand made champion must not serve, in words; None if it may.

    Where it is allowed, the gate's record may be missing; a signature that is trusted never may.
    """
    from trimtab.registry import versions  # MLflow: the recipe is deployed without it

    return versions.unfit(registry, name, version, unrecorded=is_allowed(registry.ledger, name))
