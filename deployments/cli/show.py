"""`trimtab show`: all that a release says of itself, verified first."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from deployments.cli.output import AsJson, Home, console, emit, errors, settings_for


def show(
    release: Annotated[
        str, typer.Argument(help="NAME, NAME@champion, NAME@previous or NAME/VERSION.", show_default=False)
    ],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """The model card, the lineage, the figures and the gate of a release; and what it needs to run.

    Example: trimtab show digits@champion
    """
    with errors(as_json):
        from trimtab.registry import package
        from trimtab.registry.follow import download
        from trimtab.registry.keys import Keyring
        from trimtab.registry.reference import Reference, resolve
        from trimtab.registry.signing import verify_folder

        settings = settings_for(home)
        meant = Reference.parse(release)
        name, version = meant.name, resolve(settings.tracking_uri(), meant)
        with TemporaryDirectory(prefix="trimtab-show-") as scratch:
            folder, keys = Path(scratch) / "release", Keyring(settings.signing_keys)
            facts = download(settings.tracking_uri(), name, version, folder, keys)
            signer = verify_folder(folder, keys, name).signer
            key = package.release_key(folder)
            found: dict[str, Any] = {
                "name": name,
                "version": version,
                "release_key": key,
                "signed_by": signer,
                "release": facts,
                "card": _text(folder / package.CARD),
                "sbom": package.read_json(folder, package.SBOM) if (folder / package.SBOM).exists() else None,
            }
        if as_json:
            emit(found, True, "")
            return
        from rich.markdown import Markdown

        console.print(f"{name} version {version}, release key {key[:16]}, signed by key {signer[:16]}\n")
        console.print(Markdown(found["card"] or _plainly(facts)))
        components = (found["sbom"] or {}).get("components", [])
        if components:
            console.print("\nneeds: " + ", ".join(f"{each['name']} {each['version']}" for each in components))


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _plainly(facts: dict[str, Any]) -> str:
    """For a release of before there were cards."""
    from trimtab.registry.card import card

    return card(facts, {})
