"""Move a version to a stage that does not serve: Staging for one to be looked at, Archived for one that is done.

Production is not among them: what serves is changed by `promote` and `rollback` alone, alias and stage together.
"""

from __future__ import annotations

from trimtab.errors import RegistryError
from trimtab.registry import pages, versions
from trimtab.registry.alias import ARCHIVED, PRODUCTION
from trimtab.registry.connection import Registry, mlflow_errors
from trimtab.registry.failpoint import around
from trimtab.registry.names import release_name
from trimtab.registry.promotions import read_log, stream
from trimtab.registry.reconcile import finish_move, settle
from trimtab.registry.staging_log import Staging, moves

NONE, STAGING = "None", "Staging"
# An archived version may be looked at again; nothing goes back to None.
ALLOWED = {NONE: (STAGING, ARCHIVED), STAGING: (ARCHIVED,), ARCHIVED: (STAGING,)}


def stage(registry: Registry, name: str, version: int, to: str, *, who: str, why: str) -> Staging | None:
    """Move a version, with a record before and after; None if it is there already.

    Args:
        to: "Staging" or "Archived".
        who, why: for the record.

    Raises:
        RegistryError: there is no such version, it serves, the transition is not allowed, a version for Staging has
            not passed the gate or is not whole, or MLflow refused.
        Conflict: another machine changed the log at the same moment; nothing was changed.
    """
    with mlflow_errors(f"{to} {name} {version}"), registry.lock("promote", release_name(name)):
        settle(registry, name)
        now = _stage_of(registry, name, version)
        if now == to:
            return None
        _refuse(registry, name, version, now, to)
        head = read_log(registry.ledger, name).head
        with around("promote.staging"):
            entry = {"act": "staging", "version": version, "from": now, "to": to, "who": who, "why": why}
            registry.ledger.record(stream(name), entry, head)
        finish_move(registry, name)
        pages.renew(registry, name)
        return moves(registry.ledger.read(stream(name)))[0][-1]


def _stage_of(registry: Registry, name: str, version: int) -> str:
    found = versions.find(registry.client, name, version)
    if found is None:
        raise RegistryError(f"version {version} does not exist in MLflow", where=name, fix="see `trimtab status`")
    return str(found.current_stage)


def _refuse(registry: Registry, name: str, version: int, now: str, to: str) -> None:
    if now == PRODUCTION:
        raise RegistryError(
            f"version {version} serves; it leaves Production when another version takes its place",
            where=name,
            fix="promote another version, or `trimtab rollback`",
        )
    if to not in ALLOWED.get(now, ()):
        allowed = ", ".join((*ALLOWED.get(now, ()), PRODUCTION))
        raise RegistryError(
            f"version {version} is in {now}, from where it may go to {allowed}, not to {to}", where=name
        )
    if to == STAGING and (reason := versions.unfit(registry, name, version)):
        raise RegistryError(reason, where=name, fix="register a release that passed the gate (`trimtab release`)")
