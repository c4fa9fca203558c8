"""Whether a logged model holds a whole release: every file of the manifest, under the key it should have.

MLflow registers a half-uploaded model as READY, and keeps calling a version READY after its files are gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from trimtab.candidate import digest_of
from trimtab.registry.package import MANIFEST, checked_manifest

RELEASE_FOLDER = "artifacts/release"  # where pyfunc puts the artifact called "release"
LOADER = "loader.py"
_AROUND = ("MLmodel", LOADER, "requirements.txt")


def whats_missing(
    client: MlflowClient, tracking_uri: str, model_id: str, key: str, sizes: Mapping[str, int] | None = None
) -> str | None:
    """None if the logged model is whole, else what is wrong with it, in words.

    Args:
        key: the release key its manifest must have.
        sizes: bytes of each file of the release folder, where they are known.

    Raises:
        MlflowException: the server does not answer.
    """
    try:
        location = client.get_logged_model(model_id).artifact_location
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return f"logged model {model_id} was deleted"
    # By location: "models:/m-…/path" with a tracking_uri falls back to a local ./mlflow.db (3.17.2).
    repository = get_artifact_repository(location, tracking_uri=tracking_uri)
    found = _files(repository, None)
    if lacking := [file for file in (*_AROUND, f"{RELEASE_FOLDER}/{MANIFEST}") if file not in found]:
        return f"logged model {model_id} lacks {lacking}"
    manifest = _manifest(repository, model_id)
    if digest_of(manifest) != key:
        return f"logged model {model_id} holds release {digest_of(manifest)[:12]}, not {key[:12]}"
    for file in manifest:
        stored = found.get(f"{RELEASE_FOLDER}/{file}")
        if stored is None or (sizes is not None and stored != sizes[file]):
            return f"logged model {model_id}: {file} is {'missing' if stored is None else 'cut short'}"
    return None


def model_id_of(source: str | None) -> str | None:
    """Id in a version's source "models:/m-…"; None if it is from elsewhere."""
    source = source or ""
    model_id = source.removeprefix("models:/")
    return model_id if model_id != source and model_id.startswith("m-") and "/" not in model_id else None


def is_pending(status: LoggedModelStatus) -> bool:
    """Whether a logged model was begun and not finished. MLflow's search cannot filter by it (3.17.2)."""
    return status == LoggedModelStatus.PENDING


def _files(repository: ArtifactRepository, folder: str | None) -> dict[str, int]:
    files: dict[str, int] = {}
    for item in repository.list_artifacts(folder):
        files.update(_files(repository, item.path) if item.is_dir else {item.path: int(item.file_size or 0)})
    return files


def _manifest(repository: ArtifactRepository, model_id: str) -> dict[str, str]:
    with TemporaryDirectory(prefix="trimtab-") as folder:
        path = repository.download_artifacts(f"{RELEASE_FOLDER}/{MANIFEST}", folder)
        return checked_manifest(json.loads(Path(path).read_bytes()), f"models:/{model_id}")
