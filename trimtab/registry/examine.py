"""What is wrong with a release name, found by looking only: for `trimtab doctor` without `--fix`.

MLflow calls a version READY whatever became of its files, and drops the alias of a deleted version without a word.
"""

from __future__ import annotations

from mlflow.entities.model_registry import ModelVersion

from trimtab.registry import history, pages, retention, versions
from trimtab.registry.alias import CHAMPION, PREVIOUS, PRODUCTION, aliases
from trimtab.registry.allowance import refusal
from trimtab.registry.connection import RELEASE_KEY, Registry, mlflow_errors
from trimtab.registry.names import release_name
from trimtab.registry.promotions import Log, read_log


def examine(registry: Registry, name: str) -> list[str]:
    """Problems of a release name, one sentence each; empty if there is none. Nothing is changed.

    The champion and the way back are downloaded and verified; of other versions only whether their files are there.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with mlflow_errors(f"look at {release_name(name)}"):
        log = read_log(registry.ledger, name)
        at = aliases(registry.client, name)
        found = {int(version.version): version for version in versions.every(registry.client, name)}
        said = history.tampering(registry.ledger, name, pages.mark_of(registry.client, name))
        said += [*_pointers(log, at, found), *_unfinished(registry, name, log)]
        said += [*_serving(registry, name, log, at), *_others(registry, name, log, at, found)]
        return [f"{name}: {sentence}" for sentence in said]


def _pointers(log: Log, at: dict[str, int], found: dict[int, ModelVersion]) -> list[str]:
    said = [
        f"the alias {alias!r} points at version {version}, which does not exist"
        for alias, version in at.items()
        if version not in found
    ]
    if at.get(CHAMPION) != log.champion:
        said.append(f"the alias {CHAMPION!r} is at {at.get(CHAMPION)}, the ledger says {log.champion}")
    production = sorted(number for number, version in found.items() if version.current_stage == PRODUCTION)
    if at.get(CHAMPION) == log.champion and production != ([] if log.champion is None else [log.champion]):
        said.append(f"versions {production} are in stage {PRODUCTION}, the champion is {log.champion}")
    return said


def _unfinished(registry: Registry, name: str, log: Log) -> list[str]:
    said = [f"the deletion of version {version} was cut short" for version in retention.unfinished(registry, name)]
    if log.pending is not None:
        said.append(f"the {log.pending.kind} to version {log.pending.version} was cut short")
    return said


def _serving(registry: Registry, name: str, log: Log, at: dict[str, int]) -> list[str]:
    roles = {log.previous: "is the way back", at.get(PREVIOUS): "is the way back"}
    roles |= {at.get(CHAMPION): "is the champion", log.champion: "is the champion"}
    # Whether a hand or a promotion made it champion, and whether the recipe lets one do so: as it is settled.
    reasons = {v: refusal(registry, name, v) for v in roles if v is not None}
    return [f"version {v} {roles[v]}, but must not serve: {reason}" for v, reason in reasons.items() if reason]


def _others(registry: Registry, name: str, log: Log, at: dict[str, int], found: dict[int, ModelVersion]) -> list[str]:
    looked_at = {log.champion, log.previous, at.get(CHAMPION), at.get(PREVIOUS)}
    known = versions.recorded(registry.ledger, name)
    said = []
    for version in sorted({*found} - looked_at):  # one that somebody deleted in MLflow is nobody's problem
        if version not in known:
            if RELEASE_KEY in found[version].tags:
                said.append(f"version {version} calls itself {found[version].status}, but was never registered whole")
        elif reason := versions.unfit(registry, name, version, deeply=False):
            then = f"`trimtab keys sign {name} {version}` if only its signature is missing, else `trimtab delete`"
            said.append(f"version {version} cannot be promoted: {reason}; {then}")
    return said
