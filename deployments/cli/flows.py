"""`trimtab release`, `serve` and `monitor`: run the flows from here, visible in the Prefect UI like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.cli.output import AsJson, Home, RecipeFile, emit, errors, settings_for
from trimtab.errors import StateError
from trimtab.task import NAMES
from trimtab.verify.words import smaller

TRIED = (
    "\n  [yellow]version {serving} serves[/yellow]; this one is the challenger until it has shown what "
    "serving.promotion asks for, then: trimtab promote {name} {version}"
)


def release(
    recipe: RecipeFile,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the promotion log.")] = "manual",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Train, compress, convert, verify, register, promote and serve the recipe's model.

    Exit code 6: no candidate met the budget; nothing was registered and the champion keeps serving.

    Example: trimtab release recipe.yaml --reason "new labels of May"
    """
    with errors(as_json):
        from trimtab.recipe.load import load_recipe

        name = load_recipe(recipe).name
        need_servers(home)
        from prefect import tags

        from flows.release import release as flow

        with tags("trimtab", name):
            summary = flow(str(recipe.resolve()), str(settings_for(home).home), reason)
        emit(summary, as_json, text_of(summary))


def serve(recipe: RecipeFile, home: Home = None, as_json: AsJson = False) -> None:
    """Serve the recipe's champion (the stack's scoring service follows it) and print a line to try it with.

    Example: trimtab serve recipe.yaml
    """
    with errors(as_json):
        from deployments.cli.stack import start
        from flows.serve import serve as flow
        from trimtab.recipe.load import load_recipe

        name = load_recipe(recipe).name
        settings = start(recipe, home)
        from prefect import tags

        with tags("trimtab", name):
            found = flow(str(recipe.resolve()), str(settings.home))
        emit(found, as_json, f"{name} version {found['version']} answers at {found['url']}/invocations")


def monitor(recipe: RecipeFile, home: Home = None, as_json: AsJson = False) -> None:
    """Judge the next window of the journal now, as the schedule would.

    Example: trimtab monitor recipe.yaml
    """
    with errors(as_json):
        from trimtab.recipe.load import load_recipe

        name = load_recipe(recipe).name
        need_servers(home)
        from prefect import tags

        from flows.monitor import monitor as flow

        with tags("trimtab", name):
            found = flow(str(recipe.resolve()), str(settings_for(home).home))
        again = [f"late labels, rows {one['lo']}–{one['hi']}: {one['verdict']}" for one in found["reopened"]]
        emit(found, as_json, "\n".join([*again, f"verdict: {found['verdict'] or found['state']}"]))


def text_of(summary: dict[str, Any]) -> str:
    """A release in three lines."""
    metric = next(word for word in NAMES if word in summary)
    tried = "" if summary["serving"] == summary["version"] else TRIED.format(**summary)
    return (
        f"[green]version {summary['version']}[/green]  {summary['label']} on {summary['target']}\n"
        f"  {metric} {summary[metric]}; {summary['difference']}\n"
        f"  {summary['speedup']:.2f}x eager ({summary['speedup_spread']}), {smaller(summary['size_ratio'])}, "
        f"p50 {summary['p50_ms']:.3f} ms; report {summary['report_url'] or 'in the MLflow run'}{tried}"
    )


def need_servers(home: Path | None) -> None:
    """See that the servers that a flow needs are known.

    Raises:
        StateError: MLflow or Prefect is not.
    """
    settings = settings_for(home)
    settings.tracking_uri()
    if not settings.prefect_api_url:
        raise StateError("no Prefect server is known", where=str(settings.home), fix="start one with `trimtab up`")
