"""Sign a version again: one that was registered before releases were signed, or whose key was revoked.

What is signed is what the ledger knows: the release folder must have the key that it was registered under. The loader
and MLflow's own files beside it are not in that key; they are signed as they are, which is said.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from trimtab.errors import RegistryError
from trimtab.registry import package, versions
from trimtab.registry.connection import Registry, mlflow_errors
from trimtab.registry.contents import RELEASE_FOLDER, fetch, model_id_of, whats_missing
from trimtab.registry.failpoint import around
from trimtab.registry.hostile import refuse_hostile
from trimtab.registry.names import release_name
from trimtab.registry.package import SIGNATURE
from trimtab.registry.signing import sign_folder, verify_folder


def sign_version(registry: Registry, name: str, version: int, *, who: str) -> tuple[str, list[str]]:
    """Sign a registered version with the key that signs now.

    Returns:
        The key's fingerprint, and the files that no trusted signature and no record vouched for before.

    Raises:
        RegistryError: the version is not in the ledger, or its files are not those that were registered.
    """
    with mlflow_errors(f"sign {name} {version}"), registry.lock("register", release_name(name)):
        key, model_id = _known(registry, name, version)
        with TemporaryDirectory(prefix="trimtab-sign-") as scratch:
            model = Path(scratch)
            fetch(registry.client, registry.tracking_uri, model_id, model)
            release = model / RELEASE_FOLDER
            package.check(release, name=name, key=key)
            refuse_hostile(release)
            unknown = _unknown(registry, model, name)
            sign_folder(release, name, registry.keys)
            signer = sign_folder(model, name, registry.keys)
            for folder, into in ((release, RELEASE_FOLDER), (model, None)):
                with around("sign.upload"):
                    registry.client.log_model_artifact(model_id, str(folder / SIGNATURE), into)
        entry = {"act": "signed", "version": version, "release_key": key, "signer": signer, "who": who}
        registry.ledger.record(versions.stream(name), entry, None)
    return signer, unknown


def _known(registry: Registry, name: str, version: int) -> tuple[str, str]:
    key = versions.recorded(registry.ledger, name).get(version)
    found = versions.find(registry.client, name, version)
    model_id = model_id_of(found.source) if found else None
    if key is None or model_id is None:
        raise RegistryError(
            f"version {version} has no record of having passed the gate, or is gone",
            where=name,
            fix="only what `trimtab release` registered is signed",
        )
    if missing := whats_missing(registry.client, registry.tracking_uri, model_id, key):
        raise RegistryError(missing, where=name, fix="release it again")
    return key, model_id


def _unknown(registry: Registry, model: Path, name: str) -> list[str]:
    """Files outside the release folder, unless a trusted signature holds for all of them."""
    try:
        verify_folder(model, registry.keys, name)
    except RegistryError:
        files = package.regular_files(model)
        return sorted(file for file in files if not file.startswith(f"{RELEASE_FOLDER}/") and file != SIGNATURE)
    return []
