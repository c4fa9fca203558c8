"""What MLflow shows: the aliases `champion` and `previous`, and the stages that follow them.

The alias is the contract (setting it is atomic and leaves exactly one). Stages are kept for those who look for them:
after every change exactly one version is in Production, and it is the champion, so that `models:/NAME/Production`
(MLflow: the *highest* version in that stage) means what serves.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trimtab.registry import versions
from trimtab.registry.failpoint import around
from trimtab.registry.shown import ARCHIVED, CHALLENGER, CHAMPION, PREVIOUS, PRODUCTION, Shown

__all__ = [
    "ARCHIVED",
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "PRODUCTION",
    "Champion",
    "aliases",
    "align_stages",
    "as_shown",
    "point",
    "transition",
]


@dataclass(frozen=True)
class Champion:
    """What serves, by the alias, and the way back; `previous` is None if there is none."""

    version: int
    previous: int | None


def aliases(client: MlflowClient, name: str) -> dict[str, int]:
    """Alias → version; empty if there is no such release. One request (get_registered_model, 7 ms)."""
    try:
        found = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: int(version) for alias, version in found.items()}


def as_shown(client: MlflowClient, name: str) -> Shown:
    """Aliases and stages as they are now."""
    every = versions.every(client, name)
    return Shown(
        aliases(client, name),
        {int(version.version): str(version.current_stage) for version in every},
        {int(version.version): int(version.last_updated_timestamp or 0) for version in every},
    )


def point(client: MlflowClient, name: str, alias: str, version: int | None) -> None:
    """Set an alias, or delete it for None. Both are atomic, and do nothing if it is so already."""
    with around(f"promote.alias_{alias}"):
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, str(version))


def align_stages(client: MlflowClient, name: str, champion: int | None) -> list[int]:
    """Production for the champion only; other versions in Production become Archived.

    Returns:
        The versions whose stage was another than it should be.
    """
    changed = []
    found = {int(version.version): version.current_stage for version in versions.every(client, name)}
    if champion is not None and found.get(champion) != PRODUCTION:
        transition(client, name, champion, PRODUCTION)
        changed.append(champion)
    for version, stage in found.items():
        if version != champion and stage == PRODUCTION:
            transition(client, name, version, ARCHIVED)
            changed.append(version)
    return changed


def transition(client: MlflowClient, name: str, version: int, stage: str) -> None:
    """Put one version into a stage.

    MLflow deprecated stages in 2.9 and still serves them in 3.17; the warning is silenced here only. Each version is
    moved explicitly: `archive_existing_versions=True` leaves several in Production when two callers race.
    """
    with warnings.catch_warnings(), around(f"promote.stage_{stage}"):
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(name, str(version), stage, archive_existing_versions=False)
