"""Which model versions count: those that the ledger says passed the gate and were registered whole."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from trimtab.ledger import Ledger
from trimtab.registry.connection import RELEASE_KEY, RELEASE_NAME, Registry
from trimtab.registry.contents import model_id_of, whats_missing

PAGE = 200


def stream(name: str) -> str:
    """Ledger stream of a release's registrations."""
    return f"versions/{name}"


def recorded(ledger: Ledger, name: str) -> dict[int, str]:
    """Version → release key of every version that was registered, by the ledger."""
    entries = [entry.entry for entry in ledger.read(stream(name))]
    return {int(entry["version"]): entry["release_key"] for entry in entries if entry["act"] == "registered"}


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


def unfit(registry: Registry, name: str, version: int) -> str | None:
    """Why a version must not serve, in words; None if it may.

    It may if the ledger has it registered (which happens only after the gate), MLflow still has it, under the key
    the ledger knows, and its files are all there.
    """
    key = recorded(registry.ledger, name).get(version)
    if key is None:
        return f"version {version} has no record of having passed the gate"
    found = find(registry.client, name, version)
    if found is None:
        return f"version {version} does not exist in MLflow"
    if found.status != "READY" or found.tags.get(RELEASE_KEY) != key:
        return f"version {version} is not the release that passed the gate (status {found.status})"
    model_id = model_id_of(found.source)
    if model_id is None:
        return f"version {version} points at {found.source}, not at a logged model"
    return whats_missing(registry.client, registry.tracking_uri, model_id, key)


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


def discard_model(client: MlflowClient, model: LoggedModel) -> None:
    """Mark a logged model that was not finished as FAILED, then delete it (MLflow keeps deleted ones until `gc`)."""
    if model.status == LoggedModelStatus.PENDING:
        client.finalize_logged_model(model.model_id, "FAILED")
    client.delete_logged_model(model.model_id)
