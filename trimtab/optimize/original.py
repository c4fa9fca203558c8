"""The original: the user's model, trained by the recipe or taken with the weights it came with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trimtab.candidate import Candidate, Step
from trimtab.errors import ModelError
from trimtab.optimize.augmenting import augment_of
from trimtab.optimize.own import train_own
from trimtab.optimize.predicting import predict
from trimtab.optimize.seeding import seeded
from trimtab.optimize.space import applied
from trimtab.optimize.training import fit
from trimtab.recipe.schema import Train
from trimtab.store import folder_digests, new_folder
from trimtab.weights import load_weights, save_weights
from trimtab.workbench import Workbench

ALIKE_ROWS = 32  # of validation, on which a trained module is compared with a new one that has its weights
Searched = Mapping[str, Any]
Report = Callable[[int, int, dict[str, float]], None]


def planned_original(bench: Workbench, warm_start: str | None, searched: Searched | None = None) -> Candidate:
    """The original's identity before it is made.

    Args:
        warm_start: id of the candidate whose weights training starts from, or None.
        searched: key of the search space → value, in place of the recipe's. How they were found is no part of it.
    """
    recipe = bench.recipe
    if recipe.model.weights is not None and not recipe.train.always and bench.new_rows is None:
        return Candidate((Step("given", {}),), bench.inputs)
    train, kwargs = applied(recipe.train, searched or {})
    # `loss` is of regression alone: originals of classifiers keep the identity they had before there was one.
    unsaid = {"search"} if recipe.purpose.regression else {"search", "loss"}
    settings: dict[str, Any] = train.model_dump(mode="json", exclude=unsaid)
    if recipe.model.train is not None:
        settings = {"own": recipe.model.train, "threads": recipe.train.threads}
    if warm_start is not None:
        settings["warm_start"] = warm_start
    if kwargs:
        settings["model_kwargs"] = kwargs
    return Candidate((Step("train", settings, recipe.train.seed),), bench.inputs)


def make_original(
    bench: Workbench,
    warm_start: str | None = None,
    progress: Report | None = None,
    searched: Searched | None = None,
) -> Candidate:
    """Train (or take) the original and keep its weights in the store.

    Raises:
        ModelError: weights do not fit. UserCodeError: the callable raised.
    """
    planned = planned_original(bench, warm_start, searched)
    settings, kwargs = applied(bench.recipe.train, searched or {})
    with seeded(settings.seed):  # initial weights too: the same candidate is the same wherever it is made
        model = bench.build(**kwargs)
    history: list[dict[str, Any]] = []
    if bench.recipe.model.weights is not None:
        load_weights(model, bench.code.folder / bench.recipe.model.weights)
    if planned.lineage[0].method == "train":
        if warm_start is not None:
            load_weights(model, bench.folder(warm_start) / "weights.safetensors")
        model, history = _train(bench, planned, settings, model, progress)
    return _keep(bench, planned, model, history)


def _train(
    bench: Workbench, planned: Candidate, settings: Train, model: nn.Module, progress: Report | None
) -> tuple[nn.Module, list[dict[str, Any]]]:
    train, validation = bench.splits["train"], bench.splits["validation"]
    if bench.recipe.model.train is None:
        augment = augment_of(bench)
        result = fit(model, train, validation, settings, forward=bench.forward, augment=augment, progress=progress)
    else:
        own = partial(bench.code.call, bench.recipe.model.train, "model.train")
        model, result = train_own(own, model, train, validation, settings.seed, settings.threads, forward=bench.forward)
        _refuse_another(bench, planned, model)
    return model, list(result.history)


def _refuse_another(bench: Workbench, planned: Candidate, trained: nn.Module) -> None:
    """Only weights are kept, and later stages load them into what the user's code builds: it must answer alike.

    Raises:
        ModelError: it does not: training changed more than weights.
    """
    again = bench.build(**planned.model_kwargs)
    again.load_state_dict(trained.state_dict())
    few = {
        name: torch.from_numpy(values[:ALIKE_ROWS].copy()) for name, values in bench.splits["validation"].inputs.items()
    }
    one, other = (predict(model.eval(), few, bench.forward) for model in (trained, again))
    if not torch.allclose(one, other, rtol=1e-4, atol=1e-5):
        raise ModelError(
            "its weights, loaded into a new model, answer otherwise: it changed more than the state dict",
            where="model.train",
            fix="keep what training decides in parameters and buffers, and return the module that was given",
        )


def _keep(bench: Workbench, planned: Candidate, model: nn.Module, history: list[dict[str, Any]]) -> Candidate:
    final: Path = bench.folder(planned.id)
    with new_folder(final) as draft:
        save_weights(model, draft / "weights.safetensors")
        (draft / "pruning.json").write_text("[]")
        (draft / "history.json").write_text(json.dumps(history))
        files = folder_digests(draft)
    parameters = sum(p.numel() for p in model.parameters())
    return Candidate(planned.lineage, planned.inputs, "torch", files, {"parameters": parameters})
