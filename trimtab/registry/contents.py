"""Whether a logged model holds a whole release: every file of the manifest, under the key it should have.

MLflow registers a half-uploaded model as READY, and keeps calling a version READY after its files are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests import HTTPError

from trimtab.candidate import digest_of
from trimtab.errors import RegistryError
from trimtab.registry import strict_json
from trimtab.registry.keys import Keyring
from trimtab.registry.package import MANIFEST, RELEASE, SIGNATURE, checked_manifest, is_contained, read_json
from trimtab.registry.signing import verify_folder, verify_release
from trimtab.store import file_digest

RELEASE_FOLDER = "artifacts/release"  # where pyfunc puts the artifact called "release"
LOADER = "loader.py"
_AROUND = ("MLmodel", LOADER, "requirements.txt")
_SIGNATURES = (SIGNATURE, f"{RELEASE_FOLDER}/{SIGNATURE}")


def whats_missing(
    client: MlflowClient,
    tracking_uri: str,
    model_id: str,
    key: str,
    sizes: Mapping[str, int] | None = None,
    *,
    signed: bool = False,
) -> str | None:
    """None if the logged model is whole, else what is wrong with it, in words.

    Args:
        key: the release key its manifest must have.
        sizes: bytes of each file of the release folder, where they are known.
        signed: whether signatures must be there; whether they are right, `whats_wrong` says.

    Raises:
        MlflowException: the server does not answer.
    """
    try:
        repository = artifacts(client, tracking_uri, model_id)
    except MlflowException as error:
        return _deleted(error, model_id)
    return _missing(repository, _files(repository, None), model_id, key, sizes, signed=signed)


def _missing(
    repository: ArtifactRepository,
    found: Mapping[str, int],
    model_id: str,
    key: str,
    sizes: Mapping[str, int] | None = None,
    *,
    signed: bool = False,
) -> str | None:
    needed = (*_AROUND, f"{RELEASE_FOLDER}/{MANIFEST}", *(_SIGNATURES if signed else ()))
    if lacking := [file for file in needed if file not in found]:
        return f"logged model {model_id} lacks {lacking}"
    try:
        manifest = _manifest(repository, model_id)
    except RegistryError as error:
        return f"logged model {model_id}: {error.what}"
    if digest_of(manifest) != key:
        return f"logged model {model_id} holds release {digest_of(manifest)[:12]}, not {key[:12]}"
    for file in manifest:
        stored = found.get(f"{RELEASE_FOLDER}/{file}")
        if stored is None or (sizes is not None and stored != sizes[file]):
            return f"logged model {model_id}: {file} is {'missing' if stored is None else 'cut short'}"
    return None


def whats_wrong(
    client: MlflowClient, tracking_uri: str, model_id: str, name: str, key: str, keys: Keyring
) -> str | None:
    """None if every file of the logged model is as a trusted key signed it, else what is wrong with it, in words.

    Args:
        name: the release it must be of. key: the release key its manifest must have.

    Raises:
        MlflowException: the server does not answer.
    """
    try:
        repository = artifacts(client, tracking_uri, model_id)
    except MlflowException as error:
        return _deleted(error, model_id)
    found = _files(repository, None)
    if missing := _missing(repository, found, model_id, key):
        return missing
    with TemporaryDirectory(prefix="trimtab-") as folder:
        try:
            _download(repository, found, model_id, Path(folder))
            verify_folder(Path(folder), keys, name)
            verify_release(Path(folder) / RELEASE_FOLDER, keys=keys, name=name, key=key)
        except RegistryError as error:
            return f"logged model {model_id}: {error.what}" + (f" ({error.fix})" if error.fix else "")
    return None


def release_facts(client: MlflowClient, tracking_uri: str, model_id: str, key: str) -> dict[str, Any]:
    """release.json of a logged model, vouched for by its release key.

    Raises:
        RegistryError: it is missing, or another than the key says. MlflowException: the server does not answer.
    """
    repository, where = artifacts(client, tracking_uri, model_id), f"models:/{model_id}"
    manifest = _manifest(repository, model_id)
    with TemporaryDirectory(prefix="trimtab-") as folder:
        path = _one(repository, f"{RELEASE_FOLDER}/{RELEASE}", Path(folder))
        if digest_of(manifest) != key or manifest.get(RELEASE) != file_digest(path):
            raise RegistryError(f"{RELEASE} is another than was registered", where=where)
        return read_json(path.parent, path.name)


def fetch(client: MlflowClient, tracking_uri: str, model_id: str, into: Path) -> None:
    """Download every file of a logged model.

    Raises:
        RegistryError: the server names a file that leaves the folder. MlflowException: it does not answer.
    """
    repository = artifacts(client, tracking_uri, model_id)
    _download(repository, _files(repository, None), model_id, into)


def size(client: MlflowClient, tracking_uri: str, model_id: str) -> int:
    """Bytes of everything that MLflow keeps of a logged model."""
    return sum(_files(artifacts(client, tracking_uri, model_id), None).values())


def artifacts(client: MlflowClient, tracking_uri: str, model_id: str) -> ArtifactRepository:
    """Where a logged model's files are."""
    location = client.get_logged_model(model_id).artifact_location
    # By location: "models:/m-…/path" with a tracking_uri falls back to a local ./mlflow.db (3.17.2).
    return get_artifact_repository(location, tracking_uri=tracking_uri)


def model_id_of(source: str | None) -> str | None:
    """Id in a version's source "models:/m-…"; None if it is from elsewhere."""
    source = source or ""
    model_id = source.removeprefix("models:/")
    return model_id if model_id != source and model_id.startswith("m-") and "/" not in model_id else None


def _deleted(error: MlflowException, model_id: str) -> str:
    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
        raise error
    return f"logged model {model_id} was deleted"


def _download(repository: ArtifactRepository, files: Iterable[str], model_id: str, into: Path) -> None:
    for file in files:
        if not is_contained(file):
            raise RegistryError(f"{file!r} is not a file inside the model", where=f"models:/{model_id}")
        _one(repository, file, into)


def _one(repository: ArtifactRepository, file: str, into: Path) -> Path:
    """Download a file. `download_artifacts` would ask for a listing first, to see whether it is a folder."""
    path = into / file
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        repository._download_file(file, str(path))
    except HTTPError as error:
        gone = error.response is not None and error.response.status_code == HTTPStatus.NOT_FOUND
        raise MlflowException(
            f"{file} cannot be downloaded: {error}", RESOURCE_DOES_NOT_EXIST if gone else INTERNAL_ERROR
        ) from None
    return path


def _files(repository: ArtifactRepository, folder: str | None) -> dict[str, int]:
    files: dict[str, int] = {}
    for item in repository.list_artifacts(folder):
        files.update(_files(repository, item.path) if item.is_dir else {item.path: int(item.file_size or 0)})
    return files


def _manifest(repository: ArtifactRepository, model_id: str) -> dict[str, str]:
    with TemporaryDirectory(prefix="trimtab-") as folder:
        path = _one(repository, f"{RELEASE_FOLDER}/{MANIFEST}", Path(folder))
        where = f"models:/{model_id}"
        try:
            manifest = strict_json.parse(path.read_bytes())
        except strict_json.NotStrict as error:
            raise RegistryError(f"{MANIFEST} cannot be read: {error}", where=where) from None
        if not isinstance(manifest, dict):
            raise RegistryError(f"{MANIFEST} is not a JSON object", where=where)
        return checked_manifest(manifest, where)
