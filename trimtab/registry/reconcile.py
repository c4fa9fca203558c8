"""Bring MLflow and the ledger into agreement. All of it is idempotent and runs under the release's promote lock."""

from __future__ import annotations

from typing import Any

from trimtab.registry import hands, moves, pages, versions
from trimtab.registry.alias import aliases, align_stages, as_shown, point, transition
from trimtab.registry.allowance import refusal
from trimtab.registry.connection import Registry
from trimtab.registry.failpoint import around
from trimtab.registry.promotions import BY_HAND, OUTSIDE, PROMOTE, ROLLBACK, Log, after, read_log, stream, way_back
from trimtab.registry.shown import CHAMPION, PREVIOUS, PRODUCTION
from trimtab.registry.staging_log import moves as moves_in


def settle(registry: Registry, name: str) -> list[str]:
    """Finish or undo a half-made promotion, take in what was changed by hand, and bring the pages up to date.

    Returns:
        What was found and done, one sentence each.
    """
    said = [*finish_move(registry, name), *_settle_intent(registry, name), *_settle_hand(registry, name)]
    return [*said, *moves.settle(registry, name), *pages.renew(registry, name)]


def complete(registry: Registry, name: str) -> None:
    """Carry out the pending intent: aliases, stages, ledger "promoted"."""
    log = read_log(registry.ledger, name)
    assert log.pending is not None
    serving = after(log.serving, log.pending.kind, log.pending.version)
    _show(registry, name, serving)
    with around("promote.promoted"):
        registry.ledger.record(stream(name), {"act": "promoted", "intent": log.pending.seq}, log.head)


def finish_move(registry: Registry, name: str) -> list[str]:
    """Carry out a move to a stage that was begun, or give it up where the version is gone or serves by now.

    Returns:
        What was found and done; empty if nothing was begun.
    """
    entries = registry.ledger.read(stream(name))
    _, pending = moves_in(entries)
    if pending is None:
        return []
    found = versions.find(registry.client, name, pending.version)
    why = "it is gone" if found is None else "it serves" if found.current_stage == PRODUCTION else None
    what = f"the move of version {pending.version} to {pending.to}"
    if why is not None:
        _record(registry, name, entries[-1].seq, "unstaged", {"intent": pending.seq, "why": why})
        return [f"{what} was undone: {why}"]
    transition(registry.client, name, pending.version, pending.to)
    _record(registry, name, entries[-1].seq, "staged", {"intent": pending.seq})
    return [f"{what} had been cut short and was finished"]


def _settle_intent(registry: Registry, name: str) -> list[str]:
    log = read_log(registry.ledger, name)
    if log.pending is None:
        return []
    wanted = log.pending.version
    at = aliases(registry.client, name).get(CHAMPION)
    reason = (refusal if log.pending.outside else versions.unfit)(registry, name, wanted)
    if reason is None and at not in (log.pending.previous, wanted):
        reason = f"the alias was moved to {at} meanwhile"
    if reason is None:
        complete(registry, name)
        return [f"the {log.pending.kind} to version {wanted} had been cut short and was finished"]
    # The alias itself is put right by _settle_hand: without the intent, the ledger says what served before.
    _record(registry, name, log.head, "undone", {"intent": log.pending.seq, "why": reason})
    return [f"the {log.pending.kind} to version {wanted} had been cut short and was undone: {reason}"]


def _settle_hand(registry: Registry, name: str) -> list[str]:
    log = read_log(registry.ledger, name)
    hand = hands.seen(log.champion, as_shown(registry.client, name))
    if hand is None:
        return _show_again(registry, name, log)
    if hand.version is None:
        return _put_back(registry, name, log, hand)
    what = f"version {hand.version} was made champion {BY_HAND} ({hand.half})"
    if (reason := refusal(registry, name, hand.version)) is None:
        _honour(registry, name, log, hand.version, f"{hand.half} moved in MLflow")
        return [f"{what}, before: {log.champion}; honoured and recorded"]
    whole = _exists(registry, name, log.champion)
    kept = log.champion if whole else None
    _outside(registry, name, log, "restored", refused=hand.version, version=kept, why=reason)
    _show(registry, name, log.serving if whole else ())
    now = "nothing serves" if kept is None else f"put back to {kept}"
    return [f"{what}, but {reason}; {now}"]


def _honour(registry: Registry, name: str, log: Log, version: int, why: str) -> None:
    """As a promotion of ours is made: from an intent, so that half of it is not taken for another hand."""
    kind = ROLLBACK if version in log.serving[:-1] else PROMOTE
    intent = {"act": "promoting", "kind": kind, "version": version, "from": log.champion, "who": OUTSIDE, "why": why}
    with around("promote.outside"):
        registry.ledger.record(stream(name), {**intent, "outside": True}, log.head)
    complete(registry, name)


def _put_back(registry: Registry, name: str, log: Log, hand: hands.Hand) -> list[str]:
    """A half is gone: by hand, or with its version (MLflow drops a deleted version's aliases silently)."""
    assert log.champion is not None
    if hand.half == "alias" and (reason := refusal(registry, name, log.champion)):
        if not _is_told(registry, name, log.champion):
            _outside(registry, name, log, "lost", version=log.champion, why=reason)
        return [f"nothing is champion: {reason}; roll back or promote another version"]
    gone = "alias deleted" if hand.half == "alias" else f"stage {PRODUCTION} taken away"
    _outside(registry, name, log, "restored", refused=None, version=log.champion, why=gone)
    _show(registry, name, log.serving)
    return [f"version {log.champion} serves: {gone} {BY_HAND}; put back"]


def _is_told(registry: Registry, name: str, champion: int) -> bool:
    """Whether the ledger has it already that this champion is lost."""
    for item in reversed(registry.ledger.read(stream(name))):
        if item.entry["act"] in ("promoted", "outside", "restored"):
            return False
        if item.entry["act"] == "lost":
            return bool(item.entry["version"] == champion)
    return False


def _show_again(registry: Registry, name: str, log: Log) -> list[str]:
    changed = _show(registry, name, log.serving) if log.serving else []
    if not changed:
        return []
    _outside(registry, name, log, "restored", refused=None, version=log.champion, why=f"alias {PREVIOUS} moved")
    return [f"the alias {PREVIOUS} was moved {BY_HAND}; put back"]


def _show(registry: Registry, name: str, serving: tuple[int, ...]) -> list[int]:
    """Make aliases and stages say that the top of `serving` serves; the versions that had to be changed."""
    top, back = (serving[-1] if serving else None), way_back(serving)
    now = aliases(registry.client, name)
    if back != now.get(PREVIOUS) and not _exists(registry, name, back):
        back = None
    changed = set()
    for alias, version in ((CHAMPION, top), (PREVIOUS, back)):
        if now.get(alias) != version:
            point(registry.client, name, alias, version)
            changed.add(version)
    changed.update(align_stages(registry.client, name, top))
    return sorted(version for version in changed if version is not None)


def _exists(registry: Registry, name: str, version: int | None) -> bool:
    return version is not None and versions.find(registry.client, name, version) is not None


def _record(registry: Registry, name: str, head: int, act: str, details: dict[str, Any]) -> None:
    with around(f"promote.{act}"):
        registry.ledger.record(stream(name), {"act": act, **details}, head)


def _outside(registry: Registry, name: str, log: Log, act: str, **details: Any) -> None:
    _record(registry, name, log.head, act, {**details, "who": OUTSIDE})
