"""Promotion, rollback and reconciliation: alias and stage change in one step of ours, with a record before and after.

    lock → settle what an earlier call left → may this version serve? → ledger "promoting" (compare-and-set)
         → alias champion → alias previous → stages → ledger "promoted" → its trial ends → pages and mark in MLflow

The ledger's intent comes first, so whatever was half done can be finished from it; the alias comes before the stages,
because the alias is what serving follows.
"""

from __future__ import annotations

from typing import Any

from trimtab.errors import Conflict, RegistryError
from trimtab.registry import moves, pages, versions
from trimtab.registry.alias import CHAMPION, PREVIOUS, Champion, aliases
from trimtab.registry.connection import Registry, mlflow_errors
from trimtab.registry.evidence import proof
from trimtab.registry.failpoint import around
from trimtab.registry.names import release_name
from trimtab.registry.promotions import PROMOTE, ROLLBACK, Log, Promotion, read_log, stream
from trimtab.registry.reconcile import complete, settle


def promote(
    registry: Registry, name: str, version: int, *, who: str, why: str, evidence: Any = None, force: bool = False
) -> Promotion:
    """Let a version serve. Asking for what serves already changes nothing and gives the promotion that made it so.

    Args:
        who, why: for the record, e.g. "release digits" and "passed the gate".
        evidence: JSON for the record, e.g. the digest of the report.
        force: promote without the evidence that the release's `serving.promotion` asks for; the record says so.

    Raises:
        RegistryError: the version has not passed the gate, is not whole, or MLflow refused.
        Unproven: it has not shown what its release asks for.
        Conflict: another machine promoted at the same moment; nothing was changed.
    """
    with mlflow_errors(f"promote {name} {version}"), registry.lock("promote", release_name(name)):
        settle(registry, name)
        log = read_log(registry.ledger, name)
        if log.champion == version == aliases(registry.client, name).get(CHAMPION):
            return log.done[-1]
        return _change(registry, name, log, PROMOTE, version, who, why, evidence, force)


def rollback(
    registry: Registry, name: str, *, who: str, why: str, bad_version: int | None = None, evidence: Any = None
) -> Promotion:
    """Let serve again what served before, by the ledger; versions that are gone or broken are passed over.

    Args:
        bad_version: the version to get away from. With it the call can be repeated: if that version was rolled back
            already, that rollback is given back, and if another one serves, nothing is changed.

    Raises:
        RegistryError: nothing served before, or nothing of it can serve now.
        Conflict: another version serves than `bad_version`.
    """
    with mlflow_errors(f"rollback {name}"), registry.lock("promote", release_name(name)):
        settle(registry, name)
        log = read_log(registry.ledger, name)
        if bad_version is not None and log.champion != bad_version:
            last = log.done[-1] if log.done else None
            if last is not None and last.kind == ROLLBACK and last.previous == bad_version:
                return last
            raise Conflict(
                f"version {log.champion} serves, not {bad_version}", where=name, fix="look again, then decide"
            )
        return _change(registry, name, log, ROLLBACK, _target(registry, name, log), who, why, evidence)


def reconcile(registry: Registry, name: str) -> list[str]:
    """Finish or undo a half-made promotion, and honour or put back what was changed by hand in MLflow.

    Returns:
        What was found and done, one sentence each; empty if MLflow and the ledger agree.
    """
    with mlflow_errors(f"reconcile {name}"), registry.lock("promote", release_name(name)):
        return settle(registry, name)


def champion(registry: Registry, name: str) -> Champion | None:
    """What serves, by the alias (the contract); None if nothing does."""
    with mlflow_errors(f"champion of {name}"):
        found = aliases(registry.client, release_name(name))
    return Champion(found[CHAMPION], found.get(PREVIOUS)) if CHAMPION in found else None


def history(registry: Registry, name: str) -> list[dict[str, Any]]:
    """Every finished promotion and rollback, oldest first, from the ledger."""
    return [promotion.to_json() for promotion in read_log(registry.ledger, release_name(name)).done]


def _change(
    registry: Registry,
    name: str,
    log: Log,
    kind: str,
    version: int,
    who: str,
    why: str,
    given: Any,
    force: bool = False,
) -> Promotion:
    if reason := versions.unfit(registry, name, version):
        raise RegistryError(reason, where=name, fix="register a release that passed the gate (`trimtab release`)")
    if kind == PROMOTE and log.champion is not None and log.champion != version:
        shown = proof(registry, name, log.champion, version, force=force)
        given = given if shown is None else {"given": given, **shown}
    intent = {"act": "promoting", "kind": kind, "version": version, "from": log.champion}
    with around("promote.intent"):
        entry = {**intent, "who": who, "why": why, "evidence": given}
        registry.ledger.record(stream(name), entry, log.head)
    complete(registry, name)
    moves.settle(registry, name)
    pages.renew(registry, name)
    return read_log(registry.ledger, name).done[-1]


def _target(registry: Registry, name: str, log: Log) -> int:
    reasons = []
    for version in dict.fromkeys(reversed(log.serving[:-1])):
        if version == log.champion:
            continue
        reason = versions.unfit(registry, name, version)
        if reason is None:
            return version
        reasons.append(reason)
    raise RegistryError(
        "there is no earlier version to go back to" + (f": {'; '.join(reasons)}" if reasons else ""),
        where=name,
        fix="promote another version, or release a new one",
    )
