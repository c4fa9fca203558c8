"""A user's own training function, run by seed and judged on validation like any other training."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from trimtab.data import Split
from trimtab.errors import ModelError, TrimtabError, UserCodeError
from trimtab.optimize.batches import tensors
from trimtab.optimize.losses import plain_loss
from trimtab.optimize.predicting import Forward, predict
from trimtab.optimize.record import Fit, check_finite, validation_figures
from trimtab.optimize.seeding import seeded
from trimtab.optimize.weighting import weights_of

TrainFunction = Callable[[nn.Module, Split, Split], Any]
WHERE = "the training function"


def train_own(
    train_function: TrainFunction,
    model: nn.Module,
    train: Split,
    validation: Split,
    seed: int,
    threads: int | None,
    *,
    forward: Forward,
) -> tuple[nn.Module, Fit]:
    """Train with the user's function: (model, train, validation) → None, having trained in place, or a module.

    The function gets copies of both splits, whose `weights` say how much a row counts, and runs with torch, NumPy and
    `random` seeded, in training mode and with gradients on; random states, threads and the gradient switch are as
    before afterwards.

    Args:
        seed, threads: as for `seeded`.
        forward: (module, name → tensor (n, ...)) → logits (n, classes); with it the result is judged.

    Returns:
        The trained module, in evaluation mode, and a Fit of one epoch: the plain loss on train and on
        validation, both in evaluation mode, and what validation says besides. It has no `lr`.

    Raises:
        UserCodeError: the function, or forward of what it returned, raised.
        ModelError: the result is no nn.Module, has other weights by name and shape than the model (they could not be
            loaded into it again), weights that are not finite, another number of classes, or a loss that is not finite.
    """
    classes = predict(model, _few(train), forward).shape[1]
    shapes = _shapes(model)
    with seeded(seed, threads), torch.enable_grad():
        trained = _checked(_call(train_function, model.train(), train, validation), model, shapes)
        trained.zero_grad(set_to_none=True)
        trained.eval()
        figures = _figures(trained, train, validation, forward, classes)
    return trained, Fit(1, 1, [figures])


def _call(train_function: TrainFunction, model: nn.Module, train: Split, validation: Split) -> Any:
    try:
        return train_function(model, _copy(train), _copy(validation))
    except TrimtabError:
        raise
    except Exception as error:
        # The first frame is the one above, ours.
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__)[1:])
        raise UserCodeError(
            f"{_name(train_function)} raised {type(error).__name__}: {error}\n{''.join(frames).rstrip()}",
            where=WHERE,
            fix="correct your code; the traceback above is yours",
        ) from None


def _copy(split: Split) -> Split:
    """Later stages read the same arrays: what the user's function does to its own must not reach them."""
    inputs = {name: values.copy() for name, values in split.inputs.items()}
    return Split(split.name, inputs, split.labels.copy(), split.rows, copy(split.weights))


def _checked(result: Any, model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> nn.Module:
    trained = model if result is None else result
    if not isinstance(trained, nn.Module):
        raise ModelError(
            f"returned {type(trained).__name__}, not an nn.Module",
            where=WHERE,
            fix="return the trained module, or train in place and return nothing",
        )
    now = _shapes(trained)
    differing = sorted(name for name in shapes.keys() | now.keys() if shapes.get(name) != now.get(name))
    if differing:
        name = differing[0]
        raise ModelError(
            f"{len(differing)} weights differ by name or shape from the model's, first {name}: "
            f"{now.get(name, 'missing')}, was {shapes.get(name, 'missing')}",
            where=WHERE,
            fix="train the module that is given, and return it without a wrapper around it",
        )
    broken = [name for name, value in trained.named_parameters() if not torch.isfinite(value).all()]
    if broken:
        raise ModelError(
            f"weights hold NaN or infinity: {', '.join(broken[:5])}",
            where=WHERE,
            fix="lower the learning rate, clip gradients, or scale the inputs",
        )
    return trained


def _figures(model: nn.Module, train: Split, validation: Split, forward: Forward, classes: int) -> dict[str, float]:
    few = _logits(model, _few(train), forward)
    if few.shape[1] != classes:
        raise ModelError(
            f"the trained model gives {few.shape[1]} logits, before it gave {classes}",
            where=WHERE,
            fix=f"return a module with {classes} classes",
        )
    on_train = plain_loss(_logits(model, tensors(train), forward), torch.from_numpy(train.labels))
    on_validation = _logits(model, tensors(validation), forward)
    figures = {
        "epoch": 1.0,
        "train_loss": float(on_train),
        **validation_figures(on_validation, torch.from_numpy(validation.labels), weights_of(validation)),
    }
    check_finite(figures, WHERE, "lower the learning rate, clip gradients, or scale the inputs")
    return figures


def _logits(model: nn.Module, inputs: dict[str, Tensor], forward: Forward) -> Tensor:
    try:
        return predict(model, inputs, forward)
    except TrimtabError:
        raise
    except Exception as error:
        raise UserCodeError(
            f"forward of the trained model raised {type(error).__name__}: {error}",
            where=WHERE,
            fix="leave the module on the CPU, in float32, able to take what data() returns",
        ) from None


def _few(split: Split) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values[:2].copy()) for name, values in split.inputs.items()}


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
