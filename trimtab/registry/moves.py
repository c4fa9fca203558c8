"""Moves of the alias `challenger`, each with a record; what a crash or a hand left is settled as for the champion.

All of it runs under the release's promote lock.
"""

from __future__ import annotations

from trimtab.registry import versions
from trimtab.registry.alias import CHALLENGER, CHAMPION, aliases, point
from trimtab.registry.challenges import Challenge, Challenges, read_challenges, stream
from trimtab.registry.connection import Registry
from trimtab.registry.failpoint import around
from trimtab.registry.promotions import BY_HAND, OUTSIDE


def move(registry: Registry, name: str, version: int | None, who: str, why: str) -> Challenge:
    """Set the alias, or take it away for None, with a record before and after."""
    log = read_challenges(registry.ledger, name)
    entry = {"act": "challenging", "version": version, "from": log.version, "who": who, "why": why}
    with around("challenge.intent"):
        registry.ledger.record(stream(name), entry, log.head)
    _complete(registry, name)
    last = read_challenges(registry.ledger, name).last
    assert last is not None
    return last


def settle(registry: Registry, name: str) -> list[str]:
    """Finish what was cut short, take in what was changed by hand, and end the trial of what serves by now.

    Returns:
        What was found and done, one sentence each.
    """
    said = []
    pending = read_challenges(registry.ledger, name).pending
    if pending is not None:
        _complete(registry, name)
        what = "its end" if pending.version is None else f"version {pending.version}"
        said.append(f"the change of the challenger to {what} had been cut short and was finished")
    log, now = read_challenges(registry.ledger, name), aliases(registry.client, name)
    at = now.get(CHALLENGER)
    if at is not None and at == now.get(CHAMPION):
        move(registry, name, None, "trimtab", f"version {at} is the champion")
    elif at != log.version:
        said.append(_by_hand(registry, name, log, at))
    return said


def _complete(registry: Registry, name: str) -> None:
    """Carry out the pending intent; a version that was deleted meanwhile ends in nothing being tried."""
    log = read_challenges(registry.ledger, name)
    assert log.pending is not None
    wanted = log.pending.version
    if wanted is not None and versions.find(registry.client, name, wanted) is None:
        _outside(registry, name, log, None, f"version {wanted} was deleted")
        return
    _point(registry, name, wanted)
    with around("challenge.done"):
        registry.ledger.record(stream(name), {"act": "challenged", "intent": log.pending.seq}, log.head)


def _by_hand(registry: Registry, name: str, log: Challenges, at: int | None) -> str:
    reason = None if at is None else versions.unfit(registry, name, at)
    if reason is not None:
        _outside(registry, name, log, None, f"version {at}: {reason}")
        _point(registry, name, None)
        return f"version {at} was made challenger {BY_HAND}, but {reason}; alias removed"
    _outside(registry, name, log, at, "alias moved in MLflow")
    what = "the challenger was taken away" if at is None else f"version {at} was made challenger"
    return f"{what} {BY_HAND} (before: {log.version}); honoured and recorded"


def _point(registry: Registry, name: str, version: int | None) -> None:
    if aliases(registry.client, name).get(CHALLENGER) != version:
        point(registry.client, name, CHALLENGER, version)


def _outside(registry: Registry, name: str, log: Challenges, version: int | None, why: str) -> None:
    entry = {"act": "outside", "version": version, "from": log.version, "who": OUTSIDE, "why": why}
    with around("challenge.outside"):
        registry.ledger.record(stream(name), entry, log.head)
