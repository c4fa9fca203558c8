"""What a serving process needs of the registry, over MLflow's REST interface: which version serves, and its files.

No mlflow import (1.6 s and 300 MB). What comes from the server is not trusted: the signature comes first, then only
files that it names, under paths that stay inside the folder, each checked by its SHA-256, the manifest by the version's
release key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from trimtab.errors import RegistryError
from trimtab.registry import strict_json
from trimtab.registry.keys import Keyring
from trimtab.registry.package import SIGNATURE
from trimtab.registry.rest import API, answered, check_ok, json_object, rest
from trimtab.registry.signing import UNSIGNED_FIX, Signed, read_signature, verify_folder, verify_release
from trimtab.store import new_folder

CHUNK = 1 << 20  # bytes
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
KEY_TAG = "trimtab.release_key"  # as in `connection`, which imports mlflow
FOLDER = "artifacts/release"  # as in `contents`
NO_ALIAS = "INVALID_PARAMETER_VALUE"  # what MLflow 3.17 answers (400) for an alias that is not set


def current_champion(tracking_uri: str, name: str) -> int | None:
    """The version under the alias `champion`; None if the release or the alias does not exist.

    Raises:
        RegistryError: the server does not answer, or not as MLflow does.
    """
    return version_under(tracking_uri, name, "champion")


def version_under(tracking_uri: str, name: str, alias: str) -> int | None:
    """The version under an alias; None if the release or the alias does not exist.

    Raises:
        RegistryError: as for `current_champion`.
    """
    with rest(tracking_uri) as client:
        response = client.get(f"{API}/registered-models/alias", params={"name": name, "alias": alias})
        body = json_object(response)
        code = str(body.get("error_code", ""))
        absent = code == NO_ALIAS and f"alias {alias} not found" in str(body.get("message", ""))
        if code == "RESOURCE_DOES_NOT_EXIST" or absent:
            return None
        check_ok(response)
        return _number(body, response)


def check_version(tracking_uri: str, name: str, version: int) -> None:
    """See that a version exists and is a release of ours; its files are not looked at.

    Raises:
        RegistryError: it does not, or is not; or the server does not answer.
    """
    with rest(tracking_uri) as client:
        _release_key(client, name, version)


def download(tracking_uri: str, name: str, version: int, into: Path, keys: Keyring) -> dict[str, Any]:
    """Fetch a version's release folder into `into`, which is whole afterwards or as it was before.

    Returns:
        Its release.json.

    Raises:
        RegistryError: no such version, no release of ours, not signed by a trusted key, another release than the
            version's tag says, a file that is missing, added, changed or outside the folder, one that must not be
            loaded, or the server does not answer.
    """
    with rest(tracking_uri) as client:
        key = _release_key(client, name, version)
        root = _artifact_root(client, name, version)
        with new_folder(into) as draft:
            _fetch_signed(client, f"{root}/{FOLDER}", draft, keys, f"{name} version {version}")
            return verify_release(draft, keys=keys, name=name, key=key)


def download_model(tracking_uri: str, name: str, version: int, into: Path, keys: Keyring) -> None:
    """Fetch all of a version, loader included, for a server that runs the loader; verified as `download` does.

    Raises:
        RegistryError: as for `download`.
    """
    with rest(tracking_uri) as client:
        key = _release_key(client, name, version)
        root = _artifact_root(client, name, version)
        with new_folder(into) as draft:
            _fetch_signed(client, root, draft, keys, f"{name} version {version}")
            verify_folder(draft, keys, name)
            verify_release(draft / FOLDER, keys=keys, name=name, key=key)


def _fetch_signed(client: httpx.Client, root: str, into: Path, keys: Keyring, where: str) -> Signed:
    """The signature first; then the files that it names and no others."""
    signed = read_signature(_signature(client, root, where), keys, where)
    for file in (*signed.files, SIGNATURE):
        _fetch(client, _url(root, file), into / file)
    return signed


def _signature(client: httpx.Client, root: str, where: str) -> bytes:
    with client.stream("GET", _url(root, SIGNATURE)) as response:
        if response.status_code == httpx.codes.NOT_FOUND:
            raise RegistryError(f"has no {SIGNATURE}: it is not signed", where=where, fix=UNSIGNED_FIX)
        if response.status_code != httpx.codes.OK:
            response.read()
        check_ok(response)
        content = b""
        for chunk in response.iter_bytes(CHUNK):
            content += chunk
            if len(content) > strict_json.LIMIT:
                raise RegistryError(f"{SIGNATURE} has more than {strict_json.LIMIT} bytes", where=where)
        return content


def _release_key(client: httpx.Client, name: str, version: int) -> str:
    found = json_object(
        answered(client.get(f"{API}/model-versions/get", params={"name": name, "version": str(version)}))
    )
    tags = found.get("model_version", {}).get("tags", [])
    keys = [str(tag.get("value")) for tag in tags if tag.get("key") == KEY_TAG]
    if len(keys) != 1:
        raise RegistryError(
            f"version {version} has no tag {KEY_TAG}: it was not registered by trimtab",
            where=name,
            fix="promote a version that `trimtab release` registered",
        )
    return keys[0]


def _artifact_root(client: httpx.Client, name: str, version: int) -> str:
    """Path of the version's artifacts below the server's artifact store."""
    query = {"name": name, "version": str(version)}
    uri = str(
        json_object(answered(client.get(f"{API}/model-versions/get-download-uri", params=query))).get("artifact_uri")
    )
    if urlsplit(uri).scheme != "mlflow-artifacts":
        raise RegistryError(
            f"the artifacts are at {uri}, which the MLflow server does not hand out",
            where=f"{name} version {version}",
            fix="start the MLflow server with --serve-artifacts (its default) and --artifacts-destination",
        )
    return urlsplit(uri).path.strip("/")


def _url(root: str, file: str) -> str:
    return f"{ARTIFACTS}/{quote(f'{root}/{file}')}"


def _fetch(client: httpx.Client, url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with client.stream("GET", url) as response:
        if response.status_code != httpx.codes.OK:
            response.read()
        check_ok(response)
        with path.open("wb") as stream:
            for chunk in response.iter_bytes(CHUNK):
                stream.write(chunk)


def _number(body: dict[str, Any], response: httpx.Response) -> int:
    try:
        return int(body["model_version"]["version"])
    except (KeyError, TypeError, ValueError):
        raise RegistryError("the answer has no version number", where=str(response.request.url)) from None
