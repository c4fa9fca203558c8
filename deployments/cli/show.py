"""`trimtab show`: all that a release says of itself, verified first."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from deployments.cli.output import AsJson, Home, console, emit, errors, settings_for
from trimtab.errors import RegistryError


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
        from trimtab.registry.connection import Registry
        from trimtab.registry.follow import download
        from trimtab.registry.signing import verify_folder

        settings = settings_for(home)
        name, version = _version(Registry.from_settings(settings), release)
        with TemporaryDirectory(prefix="trimtab-show-") as scratch:
            folder, keys = Path(scratch) / "release", Registry.from_settings(settings).keys
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


def _version(registry: Any, release: str) -> tuple[str, int]:
    """Name and number; an alias is asked for."""
    from trimtab.registry.alias import aliases
    from trimtab.registry.connection import mlflow_errors
    from trimtab.registry.names import release_name

    name, mark, which = release.partition("/" if "/" in release else "@")
    name, which = release_name(name), which or "champion"
    if mark == "/":
        if not which.isdecimal():
            raise RegistryError(f"{which!r} is no version number", where=release, fix="e.g. `trimtab show digits/3`")
        return name, int(which)
    with mlflow_errors(f"aliases of {name}"):
        found = aliases(registry.client, name)
    if which not in found:
        raise RegistryError(
            f"no version has the alias {which!r}", where=name, fix=f"there are: {', '.join(sorted(found)) or 'none'}"
        )
    return name, found[which]


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _plainly(facts: dict[str, Any]) -> str:
    """For a release of before there were cards."""
    from trimtab.registry.card import card

    return card(facts, {})
