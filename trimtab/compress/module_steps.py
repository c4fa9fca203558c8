"""Steps on the torch module, by the name of their method: the parameters of the step, and the rows each needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import nn

from trimtab.candidate import Candidate, Step
from trimtab.compress.batchnorm import reestimate
from trimtab.compress.clip import clip
from trimtab.compress.coarsen import coarsen
from trimtab.compress.distil import distil
from trimtab.compress.hints import hint_layers
from trimtab.compress.learned_ranges import Ranges
from trimtab.compress.opening import open_torch
from trimtab.compress.prune import prune
from trimtab.compress.qat import train_quantized
from trimtab.compress.replay import History
from trimtab.compress.shorten import shorten
from trimtab.compress.sparsify import sparsify
from trimtab.data import Array
from trimtab.optimize.augmenting import augment_of
from trimtab.recipe.schema import Distil, Qat, Quantize
from trimtab.workbench import Workbench

NORM_ROWS = 1024  # training rows over which batch norms are re-estimated after a cut
RANKING_ROWS = 256  # training rows on which blocks are ranked by what dropping them changes
Facts = dict[str, Any]
Report = Callable[[int, int, dict[str, float]], None]


def rows_of(bench: Workbench, count: int) -> dict[str, Array]:
    """Training rows spread evenly over the split: the first ones may all be of one class, or all be old."""
    train = bench.splits["train"]
    chosen = np.linspace(0, len(train) - 1, min(len(train), count)).round().astype(np.int64)
    return {name: values[chosen] for name, values in train.inputs.items()}


def settings_of(step: Step) -> dict[str, Any]:
    """A step's parameters as the recipe's section has them: identity and result come from the same values."""
    return {key: value for key, value in step.parameters.items() if key != "label"}


def distil_step(bench: Workbench, original: Candidate, model: nn.Module, step: Step, progress: Report | None) -> Facts:
    """Train the module on the answers of the original."""
    settings, teacher = Distil.model_validate(settings_of(step)), open_torch(bench, original)
    train = bench.splits["train"]
    facts: Facts = {}
    if settings.hints:
        facts["hint_layers"] = list(hint_layers(model, teacher, train, bench.forward, settings.hint_layers))
    fitted = distil(
        model,
        teacher,
        train,
        bench.splits["validation"],
        settings,
        forward=bench.forward,
        seed=step.seed or 0,
        augment=augment_of(bench),
        progress=progress,
        remembered=(original.id, bench.remembered),
    )
    return {**facts, **fitted.best}


def qat_step(
    bench: Workbench, original: Candidate, model: nn.Module, step: Step, progress: Report | None
) -> tuple[Facts, Ranges]:
    """Train the module for INT8, on the answers of the original where the step has a temperature.

    Returns:
        Facts, and the ranges of activations that go into the file.
    """
    asked = settings_of(step)
    softening: dict[str, float] = {key: asked.pop(key) for key in ("temperature", "alpha") if key in asked}
    quantize = Quantize.model_validate(asked.pop("quantize"))
    trained = train_quantized(
        model,
        bench.splits["train"],
        bench.splits["validation"],
        Qat.model_validate(asked),
        quantize,
        bench.recipe.preprocess,
        bench.forward,
        seed=step.seed or 0,
        teacher=open_torch(bench, original) if softening else None,
        softening=softening,
        augment=augment_of(bench),
        progress=progress,
        axes=bench.recipe.axes,
    )
    facts = {"qat": trained.coverage.to_json(), "validation_accuracy": trained.fitted.validation_accuracy}
    return facts, trained.ranges


def _prune(bench: Workbench, model: nn.Module, step: Step) -> tuple[History, Facts]:
    asked = step.parameters
    pruned = prune(
        model,
        bench.example,
        bench.forward,
        asked["norm"],
        asked["ratios"] if "ratios" in asked else asked["ratio"],
        asked["round_to"],
        data=bench.splits["train"],
        seed=step.seed or 0,
        scope=asked.get("scope", "layer"),
        rounds=asked.get("rounds", 1),
        settle=lambda cut: reestimate(cut, rows_of(bench, NORM_ROWS), bench.forward),
    )
    return pruned.history, {"achieved": pruned.removed_share, "skipped": list(pruned.skipped)}


def _shorten(bench: Workbench, model: nn.Module, step: Step) -> tuple[History, Facts]:
    asked = step.parameters
    blocks = asked["drop"] if "drop" in asked else asked["blocks"]
    shortened = shorten(model, rows_of(bench, RANKING_ROWS), bench.forward, blocks, regression=bench.task.regression)
    return shortened.history, {"dropped": list(shortened.dropped)}


def _sparsify(_: Workbench, model: nn.Module, step: Step) -> tuple[History, Facts]:
    return [], sparsify(model, step.parameters["sparsity"], step.parameters["scope"])


def _clip(_: Workbench, model: nn.Module, step: Step) -> tuple[History, Facts]:
    return [], {"clipping": clip(model, step.parameters["bits"], step.parameters["per_channel"])}


def _coarsen(_: Workbench, model: nn.Module, step: Step) -> tuple[History, Facts]:
    return [], {"coarsening": coarsen(model, step.parameters["bits"], step.parameters["spared"])}


MODULE_STEPS: Mapping[str, Callable[[Workbench, nn.Module, Step], tuple[History, Facts]]] = {
    "prune": _prune,
    "shorten": _shorten,
    "sparsify": _sparsify,
    "clip": _clip,
    "coarsen": _coarsen,
}
