"""Shortening: whole residual blocks are dropped, those first whose absence changes the answers least.

Residual networks bear the loss of single blocks (Veit et al. 2016, "Residual Networks Behave Like Ensembles of
Relatively Shallow Networks", arXiv:1605.06431), and so do transformers (Fan et al. 2020, "LayerDrop",
arXiv:1909.11556). Each block in turn is replaced by an identity; the one for which the mean Kullback-Leibler
divergence KL(original ‖ shortened) of the class probabilities is least goes; then the others are tried anew, since
what is left depends on what is gone. Which submodules are blocks is told by `blocks`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trimtab.compress.blocks import residual_blocks
from trimtab.compress.count import Reduction, count
from trimtab.compress.replay import Dropped, History, replay
from trimtab.errors import UnsupportedError
from trimtab.optimize.predicting import Forward, predict

Array = np.ndarray


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


def shorten(model: nn.Module, example: Mapping[str, Array], forward: Forward, blocks: int) -> Shortened:
    """Drop the given number of residual blocks, in place; inputs and outputs stay as they are.

    Args:
        example: name → array (n ≥ 1, ...), the calibration rows; the divergence is the mean over all of them.
        forward: (module, name → tensor) → logits (n, classes).
        blocks: how many to drop; 0 changes nothing.

    Raises:
        UnsupportedError: the model has no residual blocks, or fewer that can be dropped. The model is unchanged.
        ModelError: the model cannot be run on the rows.
    """
    rows = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in example.items()}
    two = {name: value[:2] for name, value in rows.items()}
    left = residual_blocks(model, two, forward) if blocks else []
    before = count(model, two, forward)
    trial, original = copy.deepcopy(model), _log_probabilities(model, rows, forward)
    history: History = []
    divergence: list[float] = []
    while len(history) < blocks:
        found = _least(trial, left, rows, forward, original)
        if found is None:
            raise _too_few(model, blocks, len(history))
        name, distance = found
        replay(trial, [{"block": name}])
        history.append({"block": name})
        divergence.append(distance)
        left.remove(name)
    replay(model, history)
    return Shortened(history, before, count(model, two, forward), divergence)


def _least(
    model: nn.Module, names: Sequence[str], rows: dict[str, Tensor], forward: Forward, original: Tensor
) -> tuple[str, float] | None:
    """The block whose absence leaves the least divergence, the first of equals; None if the model needs them all."""
    distances: dict[str, float] = {}
    for name in names:
        with _without(model, name):
            try:
                answer = _log_probabilities(model, rows, forward)
            except Exception:
                # The model's own code reaches into this block and may raise anything: it cannot be dropped.
                continue
        if answer.shape == original.shape and np.isfinite(distance := _divergence(original, answer)):
            distances[name] = distance
    return min(distances.items(), key=lambda entry: entry[1]) if distances else None


@contextmanager
def _without(model: nn.Module, name: str) -> Iterator[None]:
    """The model with an identity in place of one submodule, for a while."""
    block = model.get_submodule(name)
    model.set_submodule(name, Dropped())
    try:
        yield
    finally:
        model.set_submodule(name, block)


def _log_probabilities(model: nn.Module, rows: dict[str, Tensor], forward: Forward) -> Tensor:
    return torch.log_softmax(predict(model, rows, forward).double(), 1)


def _divergence(original: Tensor, answer: Tensor) -> float:
    """Mean over rows of KL(original ‖ answer), both log-probabilities (n, classes)."""
    return float((original.exp() * (original - answer)).sum(1).mean())


def _too_few(model: nn.Module, asked: int, possible: int) -> UnsupportedError:
    return UnsupportedError(
        f"{asked} blocks cannot be dropped: this model has {possible} that can",
        where=type(model).__name__,
        fix=f"ask for {possible} or fewer in compress.shorten.blocks" if possible else "set compress.shorten to null",
    )
