"""Deleting versions for real, and never what serves or is the way back.

    locks → settle → may it go? → ledger "deleting" → model version → files → logged model → ledger "deleted"

The ledger's intent comes first: from then on the version counts as deleted and cannot be promoted, and a deletion that
was cut short is finished by the next sweep. MLflow alone would keep the files until `mlflow gc`, and would delete a
champion's version together with its alias without a word.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from mlflow.exceptions import MlflowException

from trimtab.errors import RegistryError
from trimtab.registry import versions
from trimtab.registry.alias import ARCHIVED, aliases
from trimtab.registry.connection import Registry, mlflow_errors
from trimtab.registry.contents import model_id_of
from trimtab.registry.failpoint import around
from trimtab.registry.names import release_name
from trimtab.registry.promotions import read_log
from trimtab.registry.reconcile import settle

KEEP_TAG = "trimtab.keep"  # of a version, by hand: it stays, and the value says why
NO_STAGE = "None"


@dataclass(frozen=True)
class Deleted:
    """A version that is gone, with the bytes of its files."""

    version: int
    freed: int

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)


def kept(registry: Registry, name: str, answering: Collection[int] = ()) -> dict[int, str]:
    """Version → why it must stay, in words.

    Args:
        answering: versions that services say they answer with; one can lag behind the alias.
    """
    log = read_log(registry.ledger, name)
    found: dict[int, str] = {}
    for version in versions.every(registry.client, name):
        if version.current_stage not in (NO_STAGE, ARCHIVED):
            found[int(version.version)] = f"is in stage {version.current_stage}"
        if reason := version.tags.get(KEEP_TAG):
            found[int(version.version)] = f"has the tag {KEEP_TAG}: {reason}"
    found.update({version: f"has the alias {alias!r}" for alias, version in aliases(registry.client, name).items()})
    found.update(dict.fromkeys(answering, "is what a service answers with"))
    if log.pending is not None:
        found[log.pending.version] = "is being promoted"
    if log.previous is not None:
        found[log.previous] = "is the way back"
    if log.champion is not None:
        found[log.champion] = "is the champion"
    return found


def delete(
    registry: Registry, name: str, version: int, *, who: str, why: str, answering: Collection[int] = ()
) -> Deleted:
    """Delete a version with its files.

    Raises:
        RegistryError: it serves, is the way back or is referenced; or it is none that we registered.
    """
    with mlflow_errors(f"delete {name} {version}"), registry.lock("promote", release_name(name)):
        settle(registry, name)
        with registry.lock("register", name):
            _finish(registry, name)
            if version not in versions.recorded(registry.ledger, name):
                raise RegistryError(
                    f"version {version} is none that trimtab registered, or was deleted",
                    where=name,
                    fix="delete it in MLflow",
                )
            if reason := kept(registry, name, answering).get(version):
                raise RegistryError(
                    f"version {version} {reason}",
                    where=name,
                    fix="promote another one first, or take the reference off",
                )
            return _begin(registry, name, version, who, why)


def clean(
    registry: Registry, name: str, latest: int, *, who: str, answering: Collection[int] = (), dry_run: bool = False
) -> list[Deleted]:
    """Delete every version but the champion, the way back, what is referenced, and the newest.

    Args:
        latest: how many of the newest versions stay besides, at least 0.
        dry_run: delete nothing; say what would go.

    Returns:
        What went (or would go), oldest first.
    """
    with mlflow_errors(f"clean {name}"), registry.lock("promote", release_name(name)):
        if not dry_run:
            settle(registry, name)
        with registry.lock("register", name):
            if not dry_run:
                _finish(registry, name)
            known = sorted(versions.recorded(registry.ledger, name))
            stay = {*kept(registry, name, answering), *known[max(0, len(known) - latest) :]}
            going = [version for version in known if version not in stay]
            if dry_run:
                return [Deleted(version, _size(registry, name, version)) for version in going]
            why = f"retention: not among the newest {latest}"
            return [_begin(registry, name, version, who, why) for version in going]


def finish(registry: Registry, name: str) -> list[str]:
    """Finish deletions that were cut short; one sentence each. To be called under the register lock."""
    return [
        f"the deletion of version {done.version} had been cut short and was finished"
        for done in _finish(registry, name)
    ]


def unfinished(registry: Registry, name: str) -> dict[int, dict[str, Any]]:
    """Version → its "deleting" entry, of deletions without a "deleted"; registered again since, it is to stay."""
    begun: dict[int, dict[str, Any]] = {}
    for item in registry.ledger.read(versions.stream(name)):
        if item.entry["act"] == "deleting":
            begun[int(item.entry["version"])] = item.entry
        elif item.entry["act"] in ("deleted", "registered"):
            begun.pop(int(item.entry["version"]), None)
    return begun


def _begin(registry: Registry, name: str, version: int, who: str, why: str) -> Deleted:
    found = versions.find(registry.client, name, version)
    entry: dict[str, Any] = {
        "act": "deleting",
        "version": version,
        "release_key": versions.recorded(registry.ledger, name)[version],
        "model_id": model_id_of(found.source) if found else None,
        "who": who,
        "why": why,
    }
    with around("delete.intent"):
        registry.ledger.record(versions.stream(name), entry, None)
    return _carry_out(registry, name, version, entry["model_id"])


def _finish(registry: Registry, name: str) -> list[Deleted]:
    begun = unfinished(registry, name)
    return [_carry_out(registry, name, version, entry["model_id"]) for version, entry in begun.items()]


def _carry_out(registry: Registry, name: str, version: int, model_id: str | None) -> Deleted:
    if versions.find(registry.client, name, version) is not None:
        with around("delete.version"):
            registry.client.delete_model_version(name, str(version))
    with around("delete.files"):
        freed = _delete_model(registry, model_id) if model_id else 0
    with around("delete.deleted"):
        registry.ledger.record(versions.stream(name), {"act": "deleted", "version": version, "bytes": freed}, None)
    return Deleted(version, freed)


def _delete_model(registry: Registry, model_id: str) -> int:
    """The logged model with its files, unless another version is made of it too (registered by hand)."""
    if versions.is_used(registry.client, model_id):
        return 0
    try:
        model = registry.client.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return 0
    return versions.discard_model(registry, model)


def _size(registry: Registry, name: str, version: int) -> int:
    found = versions.find(registry.client, name, version)
    model_id = model_id_of(found.source) if found else None
    return versions.bytes_of(registry, model_id) if model_id else 0
