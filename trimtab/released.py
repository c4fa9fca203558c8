"""A registered release opened here: its files verified, loaded by its own predictor, proven on its golden rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from trimtab.registry.copies import release_folder
from trimtab.registry.keys import Keyring
from trimtab.registry.signing import verify_release
from trimtab.serving.release import Loaded, load_release
from trimtab.settings import Settings


def open_release(settings: Settings, name: str, version: int, threads: int | None = None) -> tuple[Loaded, Path]:
    """A version as the scoring service loads it, and its folder.

    Args:
        threads: of the runtime, instead of the release's own `serving.threads`.

    Raises:
        RegistryError: no such version, or it is not what a trusted key signed. StateError: it cannot be loaded here, or
            does not answer its golden rows as it did.
    """
    folder, keys = release_folder(settings, name, version), Keyring(settings.signing_keys)
    check = partial(verify_release, keys=keys, name=name)
    return load_release(folder, str(version), check=check, threads=threads, processes=0), folder
