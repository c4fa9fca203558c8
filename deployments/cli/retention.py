"""`trimtab delete` and `trimtab clean`: versions that go with their files, never what serves or is the way back."""

from __future__ import annotations

from typing import Annotated

import httpx
import typer

from deployments.cli.output import AsJson, Home, emit, errors, settings_for
from trimtab.asking import scoring_client
from trimtab.settings import Settings

Name = Annotated[str, typer.Argument(help="Name of the registered model.", show_default=False)]
ASK_S = 2.0  # seconds


def delete(
    name: Name,
    version: Annotated[int, typer.Argument(help="Version number.", min=1, show_default=False)],
    why: Annotated[str, typer.Option("--why", help="The reason; it goes into the ledger.", show_default=False)],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Delete a version with its files; refused for the champion, the way back and what is referenced.

    Example: trimtab delete digits 2 --why "trained on the wrong split"
    """
    with errors(as_json):
        from trimtab.registry.author import author
        from trimtab.registry.connection import Registry
        from trimtab.registry.retention import delete as remove

        settings = settings_for(home)
        registry = Registry.from_settings(settings)
        done = remove(registry, name, version, who=author(), why=why, answering=answering(settings, name))
        emit(done.to_json(), as_json, f"{name}: version {version} is deleted, {megabytes(done.freed)} freed")


def clean(
    name: Name,
    latest: Annotated[int, typer.Option("--latest", min=0, help="How many of the newest versions stay besides.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Delete old versions with their files: all but the champion, the way back, what is referenced, and the newest.

    Example: trimtab clean digits --latest 3 --dry-run
    """
    with errors(as_json):
        from trimtab.registry.author import author
        from trimtab.registry.connection import Registry
        from trimtab.registry.retention import clean as remove

        settings = settings_for(home)
        done = remove(
            Registry.from_settings(settings),
            name,
            latest,
            who=author(),
            answering=answering(settings, name),
            dry_run=dry_run,
        )
        freed = sum(one.freed for one in done)
        would = "would be deleted" if dry_run else "deleted"
        numbers = ", ".join(str(one.version) for one in done) or "none"
        body = {"deleted": [one.to_json() for one in done], "freed": freed, "dry_run": dry_run}
        emit(body, as_json, f"{name}: versions {would}: {numbers}; {megabytes(freed)} freed")


def answering(settings: Settings, name: str) -> set[int]:
    """The version that the scoring service answers with, if there is one that says so."""
    if settings.scoring_for(name) is None:
        return set()
    try:
        with scoring_client(settings, name, timeout_s=ASK_S) as service:
            said = service.get("/version").json().get("version")
        return {int(said)} if said is not None else set()
    except (httpx.HTTPError, ValueError, AttributeError, TypeError):
        return set()


def megabytes(size: int) -> str:
    """E.g. "1.3 MB"."""
    return f"{size / 1e6:.1f} MB"
