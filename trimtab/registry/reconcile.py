"""Bring MLflow and the ledger into agreement. All of it is idempotent and runs under the release's promote lock."""

from __future__ import annotations

from typing import Any

from trimtab.registry import moves, pages, versions
from trimtab.registry.alias import CHAMPION, PREVIOUS, PRODUCTION, aliases, align_stages, point, transition
from trimtab.registry.connection import Registry
from trimtab.registry.failpoint import around
from trimtab.registry.promotions import OUTSIDE, PROMOTE, ROLLBACK, after, read_log, stream, way_back
from trimtab.registry.staging_log import moves as moves_in


def settle(registry: Registry, name: str) -> list[str]:
    """Finish or undo a half-made promotion, take in what was changed by hand, and bring the pages up to date.

    Returns:
        What was found and done, one sentence each.
    """
    said = [*finish_move(registry, name), *_settle_intent(registry, name), *_settle_alias(registry, name)]
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
    reason = versions.unfit(registry, name, wanted)
    if reason is None and at not in (log.pending.previous, wanted):
        reason = f"the alias was moved to {at} meanwhile"
    if reason is None:
        complete(registry, name)
        return [f"the {log.pending.kind} to version {wanted} had been cut short and was finished"]
    # The alias itself is put right by _settle_alias: without the intent, the ledger says what served before.
    _record(registry, name, log.head, "undone", {"intent": log.pending.seq, "why": reason})
    return [f"the {log.pending.kind} to version {wanted} had been cut short and was undone: {reason}"]


def _settle_alias(registry: Registry, name: str) -> list[str]:
    log = read_log(registry.ledger, name)
    at = aliases(registry.client, name).get(CHAMPION)
    if at == log.champion:
        return _show_again(registry, name, log.serving)
    if at is not None and (reason := versions.unfit(registry, name, at)) is None:
        kind = ROLLBACK if at in log.serving[:-1] else PROMOTE
        entry = {"kind": kind, "version": at, "from": log.champion, "who": OUTSIDE, "why": "alias moved in MLflow"}
        _record(registry, name, log.head, "outside", entry)
        _show(registry, name, after(log.serving, kind, at))
        return [f"version {at} was made champion {OUTSIDE} (before: {log.champion}); honoured and recorded"]
    if at is None:
        return _bring_back(registry, name)
    _record(registry, name, log.head, "restored", {"refused": at, "version": log.champion, "why": reason})
    whole = _exists(registry, name, log.champion)
    _show(registry, name, log.serving if whole else ())
    now = f"put back to {log.champion}" if whole else "alias removed, nothing serves"
    return [f"version {at} was made champion {OUTSIDE}, but {reason}; {now}"]


def _bring_back(registry: Registry, name: str) -> list[str]:
    """The alias is gone: deleted by hand, or with its version (MLflow drops a deleted version's aliases silently)."""
    log = read_log(registry.ledger, name)
    assert log.champion is not None
    if reason := versions.unfit(registry, name, log.champion):
        return [f"nothing is champion: {reason}; roll back or promote another version"]
    _record(registry, name, log.head, "restored", {"refused": None, "version": log.champion, "why": "alias deleted"})
    _show(registry, name, log.serving)
    return [f"the alias of version {log.champion} was deleted {OUTSIDE}; put back"]


def _show_again(registry: Registry, name: str, serving: tuple[int, ...]) -> list[str]:
    if not serving:
        return []
    changed = _show(registry, name, serving)
    return [f"stages or aliases of versions {changed} were changed {OUTSIDE}; brought in step"] if changed else []


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
