"""Copies of releases in the state directory, for whoever reads or runs one here: monitoring, batches, explanations."""

from __future__ import annotations

from pathlib import Path

from trimtab.errors import RegistryError
from trimtab.registry.follow import download
from trimtab.registry.keys import Keyring
from trimtab.registry.signing import verify_release
from trimtab.settings import Settings


def release_folder(settings: Settings, name: str, version: str | int) -> Path:
    """The files of a version, downloaded once; verified every time, and downloaded again if they do not stand it.

    Raises:
        RegistryError: nor does what MLflow has.
    """
    folder, keys = settings.home / "releases" / name / str(version), Keyring(settings.signing_keys)
    try:
        verify_release(folder, keys=keys, name=name)
    except RegistryError:
        download(settings.tracking_uri(), name, int(version), folder, keys)
    return folder
