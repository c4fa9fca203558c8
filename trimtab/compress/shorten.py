"""Shortening: whole residual blocks are dropped, those first whose absence changes the answers least.

Residual networks bear the loss of single blocks (Veit et al. 2016, "Residual Networks Behave Like Ensembles of
Relatively Shallow Networks", arXiv:1605.06431), and so do transformers (Fan et al. 2020, "LayerDrop",
arXiv:1909.11556). Each block in turn is replaced by an identity; the one for which the mean Kullback-Leibler
divergence KL(original ‖ shortened) of the class probabilities is least goes; then the others are tried anew, since
what is left depends on what is gone. Which submodules are blocks is told by `blocks`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trimtab.compress.blocks import residual_blocks
from trimtab.compress.count import Reduction, count
from trimtab.compress.divergence import divergence_of, divergence_of_numbers, log_probabilities, numbers
from trimtab.compress.replay import Dropped, History, replay
from trimtab.errors import UnsupportedError
from trimtab.optimize.predicting import Forward, evaluating, everything

Array = np.ndarray
Answers = tuple[Callable[[nn.Module, dict[str, Tensor], Forward], Tensor], Callable[[Tensor, Tensor], float]]
_OF_CLASSES: Answers = (log_probabilities, divergence_of)
_OF_NUMBERS: Answers = (numbers, divergence_of_numbers)


@dataclass(frozen=True)
class Shortened(Reduction):
    """What a shortening did.

    Attributes:
        divergence: after each drop, the mean KL divergence from the original's probabilities, in nats.
    """

    divergence: list[float]

    @property
    def dropped(self) -> list[str]:
        """Names of the blocks, in the order in which they were dropped."""
        return [str(cut["block"]) for cut in self.history]


def shorten(
    model: nn.Module,
    example: Mapping[str, Array],
    forward: Forward,
    blocks: int | Sequence[str],
    *,
    regression: bool = False,
) -> Shortened:
    """Drop residual blocks, in place; inputs and outputs stay as they are.

    Args:
        example: name → array (n ≥ 1, ...), the calibration rows; the divergence is the mean over all of them.
        forward: (module, name → tensor) → logits (n, classes).
        blocks: how many to drop, those that change the answers least; or the names of those to drop, in this
            order. None changes nothing.
        regression: whether answers are numbers (n, k); the divergence is then that of numbers (see `divergence`).

    Raises:
        UnsupportedError: the model has no residual blocks, or fewer that can be dropped, or a name is of none that
            can. The model is unchanged.
        ModelError: the model cannot be run on the rows.
    """
    rows = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in example.items()}
    two = {name: value[:2] for name, value in rows.items()}
    left = residual_blocks(model, two, forward) if blocks else []
    named = [] if isinstance(blocks, int) else list(blocks)
    _check_names(model, named, left)
    asked = blocks if isinstance(blocks, int) else len(named)
    before, shapes = count(model, two, forward), _shapes(model, rows, forward)
    answers = _OF_NUMBERS if regression else _OF_CLASSES
    trial, original = copy.deepcopy(model), answers[0](model, rows, forward)
    history: History = []
    divergence: list[float] = []
    while len(history) < asked:
        candidates = [named[len(history)]] if named else left
        distances = _distances(trial, candidates, rows, forward, original, shapes, answers)
        found = min(distances, key=lambda entry: entry[1], default=None)
        if found is None:
            raise _needed(model, candidates[0]) if named else _too_few(model, asked, len(history))
        name, distance = found
        replay(trial, [{"block": name}])
        history.append({"block": name})
        divergence.append(distance)
        left.remove(name)
    replay(model, history)
    return Shortened(history, before, count(model, two, forward), divergence)


def ranked(model: nn.Module, example: Mapping[str, Array], forward: Forward) -> list[tuple[str, float]]:
    """Each residual block that can be dropped, with what dropping it alone does; least first, equals in model order.

    Args:
        example, forward: as for `shorten`.

    Returns:
        (name, mean KL divergence of the answers from the whole model's, in nats).

    Raises:
        UnsupportedError: the model has no residual blocks. ModelError: it cannot be run on the rows.
    """
    rows = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in example.items()}
    blocks = residual_blocks(model, {name: value[:2] for name, value in rows.items()}, forward)
    trial, original = copy.deepcopy(model), log_probabilities(model, rows, forward)
    shapes = _shapes(model, rows, forward)
    return sorted(_distances(trial, blocks, rows, forward, original, shapes), key=lambda entry: entry[1])


def _distances(
    model: nn.Module,
    names: Sequence[str],
    rows: dict[str, Tensor],
    forward: Forward,
    original: Tensor,
    shapes: list[tuple[int, ...]],
    answers: Answers = _OF_CLASSES,
) -> list[tuple[str, float]]:
    """(block, divergence of the answers without it), in the order of the names.

    Left out are blocks the model needs, and those without which an output that a release keeps has another shape.
    """
    answer_of, divergence = answers
    distances: list[tuple[str, float]] = []
    for name in names:
        with _without(model, name):
            try:
                answer, now = answer_of(model, rows, forward), _shapes(model, rows, forward)
            except Exception:
                # The model's own code reaches into this block and may raise anything: it cannot be dropped.
                continue
        if answer.shape == original.shape and now == shapes and np.isfinite(distance := divergence(original, answer)):
            distances.append((name, distance))
    return distances


def _shapes(model: nn.Module, rows: dict[str, Tensor], forward: Forward) -> list[tuple[int, ...]]:
    """Of all outputs that a release keeps, for two rows."""
    with evaluating(model), torch.no_grad():
        few = {name: value[:2] for name, value in rows.items()}
        return [tuple(one.shape) for one in everything(forward, model, few)]


@contextmanager
def _without(model: nn.Module, name: str) -> Iterator[None]:
    """The model with an identity in place of one submodule, for a while."""
    block = model.get_submodule(name)
    model.set_submodule(name, Dropped())
    try:
        yield
    finally:
        model.set_submodule(name, block)


def _check_names(model: nn.Module, names: Sequence[str], blocks: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if name not in blocks or name in names[:place]:
            what = "is named twice" if name in blocks else "is no residual block of this model"
            raise UnsupportedError(
                f"block {name!r} {what}",
                where=type(model).__name__,
                fix=f"name some of {', '.join(blocks)}, each once",
            )


def _needed(model: nn.Module, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"block {name!r} cannot be dropped: without it the model does not run, or answers are not finite",
        where=type(model).__name__,
        fix="leave it out of the blocks to drop",
    )


def _too_few(model: nn.Module, asked: int, possible: int) -> UnsupportedError:
    return UnsupportedError(
        f"{asked} blocks cannot be dropped: this model has {possible} that can",
        where=type(model).__name__,
        fix=f"ask for {possible} or fewer in compress.shorten.blocks" if possible else "set compress.shorten to null",
    )
