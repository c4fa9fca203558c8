"""`trimtab challenge`: try a version beside the champion, or end the trial."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.output import AsJson, Home, emit, errors, settings_for
from trimtab.errors import RecipeError


def challenge(
    name: Annotated[str, typer.Argument(help="Name of the registered model.", show_default=False)],
    version: Annotated[int | None, typer.Argument(help="Version number.", min=1, show_default=False)] = None,
    why: Annotated[str, typer.Option("--why", help="The reason; it goes into the ledger.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Try nothing any more.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Try a version that passed the gate beside the champion, as serving.canary and serving.shadow of its recipe say.

    Example: trimtab challenge digits 4 --why "a tenth of the traffic until Friday"
    """
    with errors(as_json):
        if clear == (version is not None):
            raise RecipeError("give a version, or --clear", where="trimtab challenge", fix="trimtab challenge --help")
        from trimtab.registry.author import author
        from trimtab.registry.challenge import challenge as begin
        from trimtab.registry.challenge import clear as end
        from trimtab.registry.challenge import how_tried
        from trimtab.registry.connection import Registry

        registry = Registry.from_settings(settings_for(home))
        if version is None:
            done = end(registry, name, who=author(), why=why)
            emit(done.to_json(), as_json, f"{name}: version {done.previous} is no challenger any more")
            return
        done = begin(registry, name, version, who=author(), why=why)
        tried = how_tried(registry, name, version)
        emit({**done.to_json(), "tried": tried}, as_json, f"{name}: version {version} is the challenger; {tried}")
