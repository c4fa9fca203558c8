"""Which model versions count: those that the ledger says passed the gate and were registered whole."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from trimtab.errors import RegistryError
from trimtab.ledger import Ledger
from trimtab.registry.connection import RELEASE_KEY, RELEASE_NAME, Registry
from trimtab.registry.contents import artifacts, model_id_of, size, whats_missing, whats_wrong

PAGE = 200


def stream(name: str) -> str:
    """Ledger stream of a release's registrations."""
    return f"versions/{name}"


def recorded(ledger: Ledger, name: str) -> dict[int, str]:
    """Version → release key of every version that was registered and not deleted by us, by the ledger."""
    known: dict[int, str] = {}
    for item in ledger.read(stream(name)):
        if item.entry["act"] == "registered":
            known[int(item.entry["version"])] = item.entry["release_key"]
        elif item.entry["act"] == "deleting":
            known.pop(int(item.entry["version"]), None)
    return known


def find(client: MlflowClient, name: str, version: int) -> ModelVersion | None:
    """The model version; None if there is none of this number (any more)."""
    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def every(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Every version of a release, oldest first. Its aliases are not filled in: MLflow's search omits them."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def unfit(registry: Registry, name: str, version: int, *, deeply: bool = True, unrecorded: bool = False) -> str | None:
    """Why a version must not serve, in words; None if it may.

    It may if the ledger has it registered (which happens only after the gate), MLflow still has it, under the key
    the ledger knows, and its files are all there, as a trusted key signed them.

    Args:
        deeply: download the files and verify them; else only see that they are there.
        unrecorded: take the key that the version itself states where the ledger has none; what it must be signed as
            does not change.
    """
    key, found = recorded(registry.ledger, name).get(version), find(registry.client, name, version)
    if key is None and unrecorded and found is not None:
        key = found.tags.get(RELEASE_KEY)
    if key is None:
        return f"version {version} has no record of having passed the gate"
    if found is None:
        return f"version {version} does not exist in MLflow"
    if found.status != "READY" or found.tags.get(RELEASE_KEY) != key:
        return f"version {version} is not the release that passed the gate (status {found.status})"
    model_id = model_id_of(found.source)
    if model_id is None:
        return f"version {version} points at {found.source}, not at a logged model"
    if not deeply:
        return whats_missing(registry.client, registry.tracking_uri, model_id, key)
    return whats_wrong(registry.client, registry.tracking_uri, model_id, name, key, registry.keys)


def logged_models(client: MlflowClient, experiment: str, name: str, key: str | None = None) -> list[LoggedModel]:
    """Logged models of a release in an experiment, of one release key or of all."""
    query = f"tags.`{RELEASE_NAME}` = '{name}'" + (f" AND tags.`{RELEASE_KEY}` = '{key}'" if key else "")
    found: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models([experiment], query, max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def discard_model(registry: Registry, model: LoggedModel) -> int:
    """Mark a logged model that was not finished as FAILED, delete its files, then its record; the bytes freed.

    MLflow hides a deleted record and keeps its files until `mlflow gc`; they are deleted here, and first, because a
    record that is gone is found by no search.
    """
    client = registry.client
    if model.status == LoggedModelStatus.PENDING:
        client.finalize_logged_model(model.model_id, "FAILED")
    freed = size(client, registry.tracking_uri, model.model_id)
    _delete_files(registry, model)
    client.delete_logged_model(model.model_id)
    return freed


def is_used(client: MlflowClient, model_id: str) -> bool:
    """Whether a version of any name is made of a logged model; somebody may have registered it elsewhere too."""
    return bool(client.search_model_versions(f"source_path = 'models:/{model_id}'", max_results=1))


def bytes_of(registry: Registry, model_id: str) -> int:
    """Bytes that a logged model's files take; 0 if it was deleted."""
    try:
        return size(registry.client, registry.tracking_uri, model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return 0


def _delete_files(registry: Registry, model: LoggedModel) -> None:
    """Every entry of the model's own folder, each by its name: an empty path would mean the folder above."""
    if model.model_id not in model.artifact_location:
        raise RegistryError(
            f"its files are at {model.artifact_location}, not in a folder of its own",
            where=f"models:/{model.model_id}",
            fix="delete them by hand",
        )
    repository = artifacts(registry.client, registry.tracking_uri, model.model_id)
    for item in repository.list_artifacts(None):
        repository.delete_artifacts(item.path)
