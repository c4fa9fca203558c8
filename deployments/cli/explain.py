"""`trimtab explain`: which step of a candidate bought what, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import AsJson, Home, console, emit, errors, settings_for

if TYPE_CHECKING:
    from rich.table import Table

    from trimtab.registry.explain import Stage


def explain(
    name: Annotated[str, typer.Argument(help="Name of the recipe.", show_default=False)],
    candidate: Annotated[
        str, typer.Argument(help="Id of a candidate, the beginning of one, or its label.", show_default=False)
    ],
    target: Annotated[str | None, typer.Option("--target", help="The runtime; default: its fastest.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Which step of a candidate bought what and what it cost, as measured on validation.

    Example: trimtab explain digits "prune-l1-0.5 distil int8" --target onnxruntime-cpu
    """
    with errors(as_json):
        from trimtab.registry.connection import mlflow_client
        from trimtab.registry.explain import explain as way_to

        settings = settings_for(home)
        where, stages = way_to(mlflow_client(settings.tracking_uri()), settings.store, name, candidate, target)
        if not as_json:
            console.print(table(f"{name} on {where}", stages))
            return
        emit({"name": name, "target": where, "stages": [stage.to_json() for stage in stages]}, as_json, "")


def table(title: str, stages: list[Stage]) -> Table:
    """One line a stage: its figures, and how each differs from the stage before."""
    from rich.table import Table

    shown = Table(title=title, title_justify="left")
    batches = list(dict.fromkeys(batch for stage in stages for batch in stage.speedup))
    shown.add_column("step", overflow="fold")
    for head in ("accuracy", "points", *(f"faster b{batch}" for batch in batches), "smaller"):
        shown.add_column(head, no_wrap=True)
    before: Stage | None = None
    for stage in stages:
        if stage.accuracy is None or stage.size_ratio is None:
            shown.add_row(stage.added, "not measured")
            continue
        known = before is not None and before.accuracy is not None
        points = f"{100 * (stage.accuracy - before.accuracy):+.2f}" if known else ""  # type: ignore[union-attr, operator]
        speeds = [f"{stage.speedup[batch]:.2f}x" if batch in stage.speedup else "–" for batch in batches]
        shown.add_row(stage.added, f"{stage.accuracy:.2%}", points, *speeds, f"{stage.size_ratio:.2f}x")
        before = stage
    return shown
