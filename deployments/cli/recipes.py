"""`trimtab init` and `trimtab validate`: write a recipe, check one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.cli.output import AsJson, Home, RecipeFile, emit, errors, settings_for
from trimtab.errors import RecipeError
from trimtab.task import Task


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    name: Annotated[str, typer.Option(help="Name of the registered model.")] = "my-model",
    model: Annotated[str, typer.Option(help="module:callable that returns an nn.Module.")] = "my_model:build",
    data: Annotated[str, typer.Option(help="module:callable(split) that returns a Dataset.")] = "my_data:split",
    task: Annotated[str, typer.Option(help="classification or regression.")] = "classification",
    as_json: AsJson = False,
) -> None:
    """Write a commented recipe with every key and its default.

    Example: trimtab init recipe.yaml --name churn --model churn.net:build --data churn.data:split
    """
    from trimtab.recipe.load import parse_recipe
    from trimtab.recipe.template import template

    with errors(as_json):
        if task not in ("classification", "regression"):
            raise RecipeError(f"{task!r} is no task", where="--task", fix="give classification or regression")
        text = template(name, model, data, task)
        parse_recipe(text, where=str(path))
        try:
            with path.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            raise RecipeError("exists already", where=str(path), fix="choose another name, or remove it") from None
        except OSError as error:
            raise RecipeError(f"cannot be written: {error.strerror}", where=str(path)) from None
        emit({"recipe": str(path)}, as_json, f"wrote {path}; next: trimtab validate {path}")


def validate(recipe: RecipeFile, home: Home = None, as_json: AsJson = False) -> None:
    """Check a recipe whole, load the model and the data, and print what a release would do. Writes nothing.

    Example: trimtab validate recipe.yaml
    """
    with errors(as_json):
        settings_for(home)
        found = describe(recipe, home)
        emit(found, as_json, _text(found))


def describe(recipe: Path, home: Path | None) -> dict[str, Any]:
    """What a release of this recipe would do, after loading its model and data."""
    from trimtab.compress.search import plan, precision, unsearched, with_last_steps
    from trimtab.compress.search.for_int8 import carrying
    from trimtab.compress.student import check_students
    from trimtab.free_axes import by_name
    from trimtab.model_check import check_model
    from trimtab.monitoring.door import check_watch
    from trimtab.optimize.augmenting import check_augment
    from trimtab.optimize.optimizers import check_options
    from trimtab.optimize.space import check_arguments
    from trimtab.settings import Settings
    from trimtab.verify.attribution.explainer import check_explain
    from trimtab.workbench import Workbench

    bench = Workbench(recipe, Settings.load(home))
    facts, numbers = check_model(bench), bench.task.regression
    check_options(bench.recipe.train)
    check_augment(bench)
    check_students(bench)
    check_arguments(bench)
    check_explain(bench)
    check_watch(bench.code, bench.splits["gate"].inputs, bench.outputs)
    if bench.recipe.model.train is not None:
        bench.code.find(bench.recipe.model.train, "model.train")
    compress, seed, targets = bench.recipe.compress, bench.recipe.train.seed, bench.recipe.targets
    shapes = compress.search
    if shapes is None:
        plans = plan(compress, seed, targets)
    else:
        starts = unsearched(compress, seed)
        plans = [steps for start in starts for steps in with_last_steps(compress, start, targets, seed)]
    candidates = [" ".join(str(s.parameters.get("label", s.method)) for s in steps) or "original" for steps in plans]
    builds = sum(len(carrying(steps, precision(steps), targets)) for steps in plans)
    search = bench.recipe.train.search
    free = by_name(bench.recipe.axes)
    trains = bench.recipe.model.weights is None or bench.recipe.train.always
    return {
        "name": bench.recipe.name,
        "rows": {name: len(split) for name, split in bench.splits.items()},
        "inputs": {name: [str(v.dtype), *map(int, v.shape[1:])] for name, v in bench.example.items()},
        **({"free_axes": {axis.name: [axis.low, axis.high] for axis in free.values()}} if free else {}),
        **({"further": further} if (further := {one["name"]: one["shape"] for one in bench.further}) else {}),
        **({"outputs": bench.outputs} if numbers else {"classes": bench.classes}),
        **({} if bench.task.by_accuracy else {"metric": bench.task.metric}),
        "slices": {name: int(mask.sum()) for name, mask in bench.slices.items()},
        "parameters": facts.parameters,
        "trains": trains,
        "search": search and {"trials": search.trials, "minutes": search.minutes, "keys": list(search.space)},
        "shapes": shapes and {"trials": shapes.trials, "trained": shapes.shapes, "minutes": shapes.minutes},
        "candidates": candidates,
        "targets": list(bench.recipe.targets),
        "builds": builds,
        "budget": bench.recipe.budget.model_dump(),
    }


def _text(found: dict[str, Any]) -> str:
    rows = ", ".join(f"{name} {count}" for name, count in found["rows"].items())
    inputs = ", ".join(f"{name} {kind[0]} {tuple(kind[1:])}" for name, kind in found["inputs"].items())
    further = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in found.get("further", {}).items())
    slices = ", ".join(f"{name} {count}" for name, count in found["slices"].items())
    budget, numbers = found["budget"], "outputs" in found
    task = Task.of(found.get("metric", "accuracy"))
    answers = f"{found['outputs']} numbers a row" if numbers else f"{found['classes']} classes"
    answers += "" if task.by_accuracy else f", judged by {task.name}"
    by_slice, trust = budget["max_slice_drop"], budget["max_calibration_rise"]
    reasons = budget["min_attribution_correlation"]
    start = "train the model" if found["trains"] else "take the weights as given"
    if search := found["search"]:
        most = f" or {search['minutes']:g} minutes" if search["minutes"] else ""
        start = f"search {', '.join(search['keys'])} in {search['trials']} trials{most}, then {start}"
    made = f"make {len(found['candidates'])} candidates: {', '.join(found['candidates'])}"
    if shapes := found["shapes"]:
        limit = f", in {shapes['minutes']:g} minutes" if shapes["minutes"] else ""
        made += (
            f"; and measure up to {shapes['trials']} shapes without training them, "
            f"train at most {shapes['trained']} of them, half of those longer, and so on{limit}"
        )
    of_shapes = " besides those of the shapes" if shapes else ""
    return "\n".join(
        [
            f"[green]valid[/green]  {found['name']}: {found['parameters']:,} parameters, {answers}",
            f"  data     {rows}",
            f"  inputs   {inputs}",
            *([f"  outputs  {further}, beside the answer"] if further else []),
            *([f"  slices   {slices}"] if slices else []),
            "a release would",
            f"  1. {start}",
            f"  2. {made}",
            f"  3. convert them to {', '.join(found['targets'])}: {found['builds']} builds{of_shapes}",
            "  4. choose on validation, verify the finalists on the gate, against: "
            f"{_drop(task, budget['max_drop'])} (lower bound), speed-up ≥ {budget['min_speedup']}x, "
            f"size ≥ {budget['min_size_ratio']}x smaller"
            + ("" if by_slice is None else f", drop of every {'' if numbers else 'class and '}slice ≤ {by_slice:.1%}")
            + ("" if trust is None else f", rise of the calibration error ≤ {trust:g} (upper bound)")
            + ("" if reasons is None else f", rank correlation of attributions ≥ {reasons:g} (lower bound)"),
            "  5. register what passes, promote it, serve it",
        ]
    )


def _drop(task: Task, most: float) -> str:
    if task.relative:
        return f"{task.name} ≤ {most:.1%} worse"
    return f"drop ≤ {most:.1%}" if task.by_accuracy else f"drop of {task.name} ≤ {most:g}"
