"""`trimtab up` and `trimtab down`: the local servers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.cli.output import AsJson, Home, emit, errors, settings_for, stderr
from deployments.cli.waiting import Waiting
from trimtab.settings import Settings


def up(
    recipe: Annotated[Path | None, typer.Argument(help="Serve and watch this recipe's release too.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Start the local servers (Prefect, MLflow, worker, Evidently UI, scoring) and wait until they are ready.

    With a recipe, its flows are deployed with their schedule, and a scoring service follows its champion.

    Example: trimtab up recipe.yaml
    """
    with errors(as_json):
        started = start(recipe, home)
        text = "\n".join(f"{name:<10} {url}" for name, url in addresses(started).items())
        emit(addresses(started), as_json, text)


def start(recipe: Path | None, home: Path | None) -> Settings:
    """Bring the stack up; with a recipe, deploy its flows and automations."""
    from deployments.stack import up as bring_up
    from deployments.stack.guard import Guard
    from trimtab.recipe.load import load_recipe

    parsed = load_recipe(recipe) if recipe else None
    name = parsed.name if parsed else None
    backend = parsed.serving.backend if parsed else "trimtab"
    guard = Guard.of(parsed, recipe) if parsed and recipe else None
    stack = bring_up(settings_for(home), Waiting(stderr), release=name, backend=backend, guard=guard)
    settings = settings_for(home)
    if stack.reused:
        stderr.print("running already: reused")
    from deployments.automations import automate, watch_silence

    watch_silence(settings)
    if recipe and parsed:
        from deployments.deploy import deploy
        from trimtab.ledger import Ledger
        from trimtab.registry.allowance import allow
        from trimtab.registry.author import author

        allow(Ledger(settings.ledger), parsed.name, parsed.registry.allow_unverified, author())
        for done in [*deploy(settings, recipe), *automate(settings, recipe, str(name))]:
            stderr.print(f"deployed {done}", markup=False)
    return settings


def down(home: Home = None, as_json: AsJson = False) -> None:
    """Cancel what is in flight and stop every server of the state directory.

    Example: trimtab down
    """
    from deployments.stack import down as bring_down

    with errors(as_json):
        ran = bring_down(settings_for(home), Waiting(stderr))
        emit({"stopped": ran}, as_json, "stopped" if ran else "nothing was running")


def addresses(settings: Settings) -> dict[str, Any]:
    """Where to look."""
    return {
        "prefect": (settings.prefect_api_url or "").removesuffix("/api"),
        "mlflow": settings.mlflow_tracking_uri,
        "evidently": settings.evidently_url,
        **{f"scoring {name}": url for name, url in settings.scoring.items()},
        "state": str(settings.home),
    }
