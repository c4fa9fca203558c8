"""`trimtab explain`: which step of a candidate bought what, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import AsJson, Home, console, emit, errors, settings_for
from trimtab.task import Metric, Task

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
    metric: Metric = next((stage.metric for stage in stages if stage.accuracy is not None), "accuracy")
    task = Task.of(metric)
    for head in (
        task.name,
        "points" if task.by_accuracy else "change",
        *(f"faster b{batch}" for batch in batches),
        "smaller",
    ):
        shown.add_column(head, no_wrap=True)
    before: Stage | None = None
    for stage in stages:
        if stage.accuracy is None or stage.size_ratio is None:
            shown.add_row(stage.added, "not measured")
            continue
        known = before is not None and before.accuracy is not None
        points = change(task, before.accuracy, stage.accuracy) if known else ""  # type: ignore[union-attr, arg-type]
        speeds = [f"{stage.speedup[batch]:.2f}x" if batch in stage.speedup else "–" for batch in batches]
        figure = f"{stage.accuracy:.2%}" if task.by_accuracy else f"{stage.accuracy:.4g}"
        shown.add_row(stage.added, figure, points, *speeds, f"{stage.size_ratio:.2f}x")
        before = stage
    return shown


def change(task: Task, before: float, after: float) -> str:
    """In points of accuracy; of an error relative, of others the difference."""
    if task.by_accuracy:
        return f"{100 * (after - before):+.2f}"
    return task.show_drop(after / before - 1) if task.relative and before else task.show_drop(after - before)
