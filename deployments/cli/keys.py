"""`trimtab keys`: what signs releases, whose signatures are trusted, and changing it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.output import AsJson, Home, emit, errors, settings_for

app = typer.Typer(help="Keys that sign releases, and the public ones that are trusted.", no_args_is_help=True)
Fingerprint = Annotated[str, typer.Argument(help="The first 8 digits or more.", show_default=False)]


@app.command("list")
def show(home: Home = None, as_json: AsJson = False) -> None:
    """What signs, what is trusted, what was revoked.

    Example: trimtab keys list
    """
    with errors(as_json):
        from trimtab.registry.keys import Keyring

        keys = Keyring(settings_for(home).signing_keys).every()
        lines = [f"{key.state:<8} {key.fingerprint[:16]}  {key.path}" for key in keys]
        text = "\n".join(lines) or "no key yet: the first release makes one"
        emit({"keys": [key.to_json() for key in keys]}, as_json, text)


@app.command()
def rotate(home: Home = None, as_json: AsJson = False) -> None:
    """Sign with a new key from now on; what the old one signed stays trusted until it is revoked.

    Example: trimtab keys rotate
    """
    with errors(as_json):
        from trimtab.registry.keys import Keyring

        name = Keyring(settings_for(home).signing_keys).rotate()
        emit({"signs": name}, as_json, f"key {name[:16]} signs from now on; the ones before stay trusted")


@app.command()
def revoke(key: Fingerprint, home: Home = None, as_json: AsJson = False) -> None:
    """Refuse what a key signed, for good. A service finds out when it loads a release, not while it serves one.

    Example: trimtab keys revoke 8765e42e
    """
    with errors(as_json):
        from trimtab.registry.keys import Keyring

        name = Keyring(settings_for(home).signing_keys).revoke(key)
        then = "sign what it signed again (`trimtab keys sign NAME VERSION`), then restart services"
        text = f"key {name[:16]} is revoked; {then}"
        emit({"revoked": name}, as_json, text)


@app.command()
def trust(
    file: Annotated[Path, typer.Argument(help="A public key (PEM).", show_default=False, dir_okay=False, exists=True)],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Trust the public key of another machine that releases.

    Example: trimtab keys trust build-machine.pem
    """
    with errors(as_json):
        from trimtab.registry.keys import Keyring

        name = Keyring(settings_for(home).signing_keys).trust(file.read_bytes(), str(file))
        emit({"trusted": name}, as_json, f"key {name[:16]} is trusted")


@app.command()
def sign(
    name: Annotated[str, typer.Argument(help="Name of the registered model.", show_default=False)],
    version: Annotated[int, typer.Argument(help="Version number.", min=1, show_default=False)],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Sign a version again: registered before releases were signed, or signed by a key that was revoked.

    Example: trimtab keys sign digits 3
    """
    with errors(as_json):
        from trimtab.registry.author import author
        from trimtab.registry.connection import Registry
        from trimtab.registry.resign import sign_version

        signer, unknown = sign_version(Registry.from_settings(settings_for(home)), name, version, who=author())
        text = f"{name}: version {version} is signed by key {signer[:16]}"
        if unknown:
            text += f"\nnothing vouched for {', '.join(unknown)}; they were signed as they are in MLflow"
        emit({"signer": signer, "taken_as_they_are": unknown}, as_json, text)
