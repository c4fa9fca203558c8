"""Training on Lightning: in memory, by seed, stopped early on the validation loss, best weights restored.

Lightning runs the loop (optimizer step, clipping, accumulation, precision); the recipe says how, and each of its parts
has a file here: `optimizers`, `schedules`, `averaging`, `losses`, `precision`. What comes of it is on `record`.
"""

from __future__ import annotations

import tempfile

import torch
from torch import nn

from trimtab.data import Split
from trimtab.errors import ModelError
from trimtab.modes import into_training
from trimtab.optimize.augmenting import Augment
from trimtab.optimize.averaging import MovingAverage
from trimtab.optimize.batches import batches
from trimtab.optimize.judging import Judge
from trimtab.optimize.layout import laid_out, lies_channels_last
from trimtab.optimize.loop import TrainingModule, silent_lightning, trainer_for
from trimtab.optimize.losses import Loss, recipe_loss
from trimtab.optimize.optimizers import check_options
from trimtab.optimize.predicting import Forward, predict
from trimtab.optimize.record import Fit, Progress
from trimtab.optimize.seeding import seeded
from trimtab.recipe.schema import Train

__all__ = ["Fit", "Loss", "Progress", "fit"]


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    settings: Train,
    *,
    forward: Forward,
    loss: Loss | None = None,
    augment: Augment | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Train `model` in place, in training mode whatever mode it is in (see `into_training`), and leave it in evaluation
    mode with the weights of its best validation epoch.

    Args:
        forward: (module, name → tensor (n, ...)) → logits (n, classes); it decides about pre-processing.
        loss: (logits, the batch they are of) → scalar; the recipe's by default, and only that one heeds `loss`,
            `label_smoothing` and `class_weights`. The validation loss is always plain cross-entropy, or squared error.
            Rows count as the splits' `weights` say, in the recipe's loss and on validation; another heeds them itself.
        augment: (name → tensor, generator) → the same names, shapes and dtypes; called on every training batch before
            `forward`, never on validation. Its generator is seeded from the seed, and so are the global ones.
        progress: called after every epoch with (epoch from 1, epochs, the epoch's figures); what it raises ends
            the training.

    With `ema` the averaged weights are judged and kept. Validation is in fp32 whatever the precision of training. The
    same seed, data and number of torch threads give bit-identical weights. Global random states are untouched, no
    file is left, and it may be called from any thread.

    Raises:
        ModelError: the loss is not finite, or the logits do not fit the labels.
        RecipeError: an optimizer option or the class weights do not fit. DataError: balanced weights lack a class.
        UnsupportedError: the CPU has no bf16.
    """
    check_options(settings)
    classes = _classes(model, train, validation, forward)
    chosen = loss or recipe_loss(settings, train.labels, classes, train.weights)
    channels_last = lies_channels_last(settings.channels_last, model, train.inputs)
    with (
        seeded(settings.seed, settings.threads),
        laid_out(model, channels_last),
        silent_lightning(),
        tempfile.TemporaryDirectory(prefix="trimtab-fit-") as folder,
    ):
        average = None if settings.ema is None else MovingAverage(model, settings.ema)
        judge = Judge(average.model if average else model, forward, validation, settings, progress)
        module = TrainingModule(model, train, forward, chosen, settings, average, augment, channels_last)
        into_training(model)
        trainer_for(settings, judge, folder).fit(module, batches(train, settings))
        return judge.finish(model)


def _classes(model: nn.Module, train: Split, validation: Split, forward: Forward) -> int:
    few = {name: torch.from_numpy(values[:2].copy()) for name, values in train.inputs.items()}
    classes = predict(model, few, forward).shape[1]
    if train.labels.dtype.kind == "f":
        return _numbers(model, classes, train)
    largest = max(int(split.labels.max()) for split in (train, validation))
    if largest >= classes:
        raise ModelError(
            f"the model gives {classes} logits, but the labels go up to {largest}",
            where=type(model).__name__,
            fix=f"build it with {largest + 1} classes or more",
        )
    return classes


def _numbers(model: nn.Module, given: int, train: Split) -> int:
    if given != train.labels.shape[1]:
        raise ModelError(
            f"the model gives {given} numbers a row, a label has {train.labels.shape[1]}",
            where=type(model).__name__,
            fix=f"end it with {train.labels.shape[1]}",
        )
    return given
