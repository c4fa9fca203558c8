"""Does the user's model fit the task and the data? Asked at the door, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trimtab import pixels
from trimtab.data import Array
from trimtab.errors import DataError, ModelError, UserCodeError
from trimtab.free_axes import by_name, misfit, resized, size_of, sizes_to_try
from trimtab.further import further_of
from trimtab.modes import into_training
from trimtab.runtime.availability import refuse_unavailable
from trimtab.workbench import Workbench


@dataclass(frozen=True)
class ModelFacts:
    """What one batch through the model showed."""

    parameters: int
    output: tuple[int, ...]


def check_model(bench: Workbench) -> ModelFacts:
    """See that the targets can be used here, build the model and send the example rows through it.

    Raises:
        UnsupportedError: a target of the recipe cannot be used on this machine.
        UserCodeError: forward raised. ModelError: the output is not finite logits (n, classes), or numbers (n, k), or
            the input no image of `serving.images`, or an output of `model.also` cannot be kept.
        DataError: the data have not the axes of `inputs`.
    """
    for target in bench.recipe.targets:
        refuse_unavailable(target)
    check_images(bench)
    if why := misfit(bench.example, bench.recipe.axes):
        raise DataError(why, where="inputs", fix="declare the axes as the data have them, or correct data()")
    facts = check_module(bench, bench.build(), bench.recipe.model.callable)
    check_training(bench)
    return facts


def check_training(bench: Workbench) -> None:
    """See that the model answers in training mode too, where we train it: some have outputs more then, for losses of
    their own, which a distillation would meet an hour later.

    Raises:
        UserCodeError: forward raised. ModelError: the output is not finite logits (n, classes), or numbers (n, k).
    """
    recipe = bench.recipe
    ours = recipe.model.train is None and (recipe.model.weights is None or recipe.train.always)
    if not ours and recipe.compress.distil is None and recipe.compress.qat is None:
        return
    model = bench.build()
    into_training(model)
    try:
        with torch.random.fork_rng(devices=[]):
            _forward(bench, model, bench.example, recipe.model.callable)
    except (ModelError, UserCodeError) as error:
        raise type(error)(
            f"in training mode, in which we train it: {error.what}",
            where=recipe.model.callable,
            fix="let forward answer alike in training and evaluation (a loss on other outputs belongs into "
            "`model.train`), or set compress.distil and compress.qat to null",
        ) from None


def check_images(bench: Workbench) -> None:
    """See that `serving.images`, where it is given, gives what the model takes.

    Raises:
        ModelError: it does not.
    """
    images = bench.recipe.serving.images
    if images is None:
        return
    inputs = [
        {"name": name, "dtype": str(values.dtype), "shape": ["batch", *values.shape[1:]]}
        for name, values in bench.example.items()
    ]
    if (why := pixels.misfit(images.mode, images.scale, inputs)) is not None:
        raise ModelError(why, where="serving.images", fix="correct it, or leave it out")


def check_module(bench: Workbench, model: nn.Module, where: str) -> ModelFacts:
    """As `check_model`, of a module that was built; it is left in evaluation mode.

    Args:
        where: what an error names.
    """
    model.eval()
    output = _forward(bench, model, bench.example, where)
    axes = bench.recipe.axes
    for name, axis in by_name(axes).items():
        for size in sizes_to_try(axis, size_of(bench.example, axes, name)).values():
            _forward(bench, model, resized(bench.example, axes, name, size), f"{where}: {name} {size}")
    check_further(bench, model, where)
    return ModelFacts(sum(p.numel() for p in model.parameters()), tuple(output.shape))


def check_further(bench: Workbench, model: nn.Module, where: str) -> None:
    """See that outputs kept beside the one that decides are those of the model as the recipe builds it.

    Args:
        model: in evaluation mode. where: what an error names.

    Raises:
        ModelError: one cannot be kept, has the name of an input, or another shape.
    """
    also = bench.recipe.outputs.also
    if not also:
        return
    if clash := [name for name in also if name in bench.example]:
        raise ModelError(f"{clash[0]} is an input of the model", where="model.also", fix="give the output another name")
    for own, promised in zip(
        further_of(bench.forward, model, bench.example, bench.recipe.axes), bench.further, strict=True
    ):
        if own != promised:
            raise ModelError(
                f"output {own['name']!r} has the shape {own['shape']}, and {promised['shape']} as the recipe builds it",
                where=where,
                fix="outputs of a release keep their shapes: leave it as it is, or take the output out of model.also",
            )


def _forward(bench: Workbench, model: nn.Module, rows: Mapping[str, Array], where: str) -> Tensor:
    """The model's answer to these rows, checked."""
    inputs = {name: torch.from_numpy(values) for name, values in rows.items()}
    shapes = {name: tuple(values.shape) for name, values in inputs.items()}
    try:
        with torch.inference_mode():
            output = bench.forward(model, inputs)
    except ModelError:
        raise
    except Exception as error:
        raise UserCodeError(
            f"forward raised {type(error).__name__}: {error}",
            where=where,
            fix=f"the model must take what data() returns, and every size that `inputs` allows: {shapes}",
        ) from None
    count = len(next(iter(inputs.values())))
    if output.ndim != 2 or tuple(output.shape) != (count, bench.outputs):
        what, of_what = ("numbers", "the labels") if bench.task.regression else ("logits", "`labels`")
        raise ModelError(
            f"the output has shape {tuple(output.shape)}, the task wants {what} ({count}, {bench.outputs})",
            where=where,
            fix=f"end the model with {bench.outputs} {what} a row, or correct {of_what}",
        )
    if not torch.isfinite(output).all():
        raise ModelError(
            "the output holds NaN or infinity on the first training rows",
            where=where,
            fix="check initialisation and `preprocess`",
        )
    return output
