"""Knowledge distillation: a student learns the softened answers of its original.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531. The teacher's logits are
computed once, before the first epoch; with an augmentation they are computed on each augmented batch, since its answer
to a row as it was is the wrong target for the row as it now is (Beyer et al. 2022, "Knowledge distillation: A good
teacher is patient and consistent", arXiv:2106.05237).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.compress.hints import hint_layers, hinting
from trimtab.data import Split
from trimtab.errors import ModelError
from trimtab.optimize.augmenting import Augment
from trimtab.optimize.batches import Batch, tensors
from trimtab.optimize.layout import laid_out, lies_channels_last
from trimtab.optimize.losses import plain_loss
from trimtab.optimize.predicting import Forward, predict
from trimtab.optimize.training import Fit, Progress, fit
from trimtab.optimize.weighting import mean, weights_of
from trimtab.recipe.schema import Distil, Train
from trimtab.remembered import Remembered, key_of


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float,
    alpha: float,
    weights: Tensor | None = None,
) -> Tensor:
    """alpha * T² * KL(teacher/T ‖ student/T) + (1 - alpha) * cross-entropy, mean over rows.

    T² keeps the size of the soft part's gradient the same for every temperature (section 2 of the paper). At T = 1 the
    soft part is KL of the probabilities; for T → ∞ it tends to half the variance over classes of the difference of
    logits.

    Args:
        student_logits, teacher_logits: float (n, classes).
        labels: int64 (n,).
        temperature: > 0. alpha: weight of the soft part, in [0, 1].
        weights: (n,), how much each row counts, as `weighting.scaled` gives them; None: all alike.
    """
    soft = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean" if weights is None else "none",
        log_target=True,
    )
    if weights is not None:
        soft = mean(soft.sum(1), weights)
    return alpha * temperature**2 * soft + (1 - alpha) * plain_loss(student_logits, labels, weights)


def regression_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, alpha: float, weights: Tensor | None = None
) -> Tensor:
    """alpha * MSE(student, teacher) + (1 - alpha) * MSE(student, labels).

    Numbers have nothing to be softened. In closed form it is MSE(student, alpha * teacher + (1 - alpha) * labels) plus
    alpha * (1 - alpha) * MSE(teacher, labels), which no student changes: the student learns the mean of both.

    Args:
        student, teacher, labels: float (n, k). alpha: weight of the teacher, in [0, 1].
        weights: as for `distillation_loss`.
    """
    return alpha * plain_loss(student, teacher, weights) + (1 - alpha) * plain_loss(student, labels, weights)


def distil(
    student: nn.Module,
    teacher: nn.Module,
    train: Split,
    validation: Split,
    settings: Distil,
    forward: Forward,
    seed: int,
    augment: Augment | None = None,
    progress: Progress | None = None,
    remembered: tuple[str, Remembered] | None = None,
) -> Fit:
    """Train the student in place on the teacher's answers for `train`; best validation epoch restored.

    Args:
        forward: (module, name → tensor) → logits, for both.
        seed: of shuffling, dropout and augmentation; the same one gives bit-identical weights.
        augment, progress: as for `fit`; teacher and student see the same augmented rows.
        remembered: what identifies the teacher, and where its answers to augmented batches are kept. Students that are
            distilled one after the other with one seed see the same batches.

    Raises:
        ModelError: teacher and student have different numbers of classes, or the loss is not finite.
        UnsupportedError: hints are asked for and no module, or not every named one, can give them.
    """
    _same_classes(student, teacher, train, forward)
    counted = weights_of(train)
    layers = hint_layers(student, teacher, train, forward, settings.hint_layers) if settings.hints else ()
    targets = _teacher_logits(teacher, train, forward, on_batches=augment is not None or bool(layers))
    # A teacher that answers every batch takes a good part of the time: its images lie as the student's do, and what it
    # answered before is looked up, unless its hints are asked for as well.
    layout = lies_channels_last(settings.channels_last, teacher, train.inputs)
    if remembered is not None and augment is not None and not layers:
        targets = _looked_up(targets, f"{remembered[0]} {layout} {settings.threads}", remembered[1])
    with laid_out(teacher, layout), hinting(student, teacher, layers) as hints:

        def loss(logits: Tensor, batch: Batch) -> Tensor:
            answers, alpha = targets(batch), settings.alpha
            rows = None if counted is None else counted[batch.rows]
            if batch.labels.is_floating_point():
                soft_and_hard = regression_loss(logits, answers, batch.labels, alpha, rows)
            else:
                soft_and_hard = distillation_loss(logits, answers, batch.labels, settings.temperature, alpha, rows)
            return soft_and_hard + settings.hints * hints.loss(rows) if layers else soft_and_hard

        training = training_of(settings, seed)
        return fit(student, train, validation, training, forward=forward, loss=loss, augment=augment, progress=progress)


def training_of(settings: Distil, seed: int) -> Train:
    """A distillation's settings as those of a training."""
    return Train.model_validate(
        {
            **settings.model_dump(include=set(Distil.model_fields) & set(Train.model_fields)),
            # Momentum is of sgd only, and so is Nesterov's; without momentum there is nothing to look ahead along.
            "nesterov": settings.optimizer == "sgd" and settings.momentum != 0,
            # All epochs are run: both schedules end near a rate of zero, and the best epoch is restored anyway.
            "patience": settings.epochs,
            "seed": seed,
        }
    )


def _same_classes(student: nn.Module, teacher: nn.Module, train: Split, forward: Forward) -> None:
    few = {name: torch.from_numpy(values[:2]) for name, values in train.inputs.items()}
    own, theirs = (predict(model, few, forward).shape[1] for model in (student, teacher))
    if own != theirs:
        raise ModelError(
            f"the student gives {own} logits, the teacher {theirs}",
            where=type(student).__name__,
            fix="distil from the model the student was pruned from",
        )


def _looked_up(ask: Callable[[Batch], Tensor], who: str, remembered: Remembered) -> Callable[[Batch], Tensor]:
    """The same answers, each batch asked for once."""

    def answers(batch: Batch) -> Tensor:
        key = key_of(who, {name: values.numpy() for name, values in batch.inputs.items()})
        known = remembered.get(key)
        if known is None:
            known = ask(batch).numpy()
            remembered.put(key, known)
        return torch.from_numpy(known)

    return answers


def _teacher_logits(teacher: nn.Module, train: Split, forward: Forward, on_batches: bool) -> Callable[[Batch], Tensor]:
    """Batch → the teacher's logits (b, classes): looked up, or computed on the rows as the student saw them."""
    if not on_batches:
        known = predict(teacher, tensors(train), forward)
        return lambda batch: known[batch.rows]
    # In one piece: hints are what the latest forward gave.
    return lambda batch: predict(teacher, batch.inputs, forward, batch=len(batch.rows))
