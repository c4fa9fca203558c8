"""Batch-norm re-estimation: running statistics taken afresh after a step that moved the activations.

A pruned or shortened network feeds its batch norms other activations than those they kept the mean and variance of,
and answers badly for that alone. One pass over training rows puts it right, without a gradient step: "adaptive batch
normalization" of pruned candidates in Li et al. 2020, "EagleEye", arXiv:2007.02491; pooled over all rows ("precise
batch norm") as in Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trimtab.errors import UnsupportedError
from trimtab.optimize.predicting import Forward

Array = np.ndarray


class _Moments:
    """Count, mean and sum of squared deviations of all values a channel has had so far."""

    def __init__(self) -> None:
        self.count = 0
        self.batches = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Take in a layer's input (n, channels, ...), by the parallel formula of Chan et al. 1979."""
        flat = values.detach().double().transpose(0, 1).flatten(1)
        new, mean = flat.shape[1], flat.mean(1)
        shift = mean - self.mean
        total = self.count + new
        self.squares = self.squares + (flat - mean[:, None]).square().sum(1) + shift**2 * self.count * new / total
        self.mean = self.mean + shift * new / total
        self.count, self.batches = total, self.batches + 1

    def write(self, layer: _BatchNorm) -> None:
        """Put mean and unbiased variance, as PyTorch keeps them, into the layer's buffers."""
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.copy_(torch.as_tensor(self.mean))
        layer.running_var.copy_(torch.as_tensor(self.squares / max(1, self.count - 1)))
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(self.batches)


@torch.no_grad()
def reestimate(model: nn.Module, inputs: Mapping[str, Array], forward: Forward, batch_size: int = 64) -> int:
    """Replace the running statistics of every batch norm by those of the given rows; evaluation mode afterwards.

    The rows pass once, in batches of at least `batch_size` (all in one if there are fewer). While they do, each batch
    norm normalizes by its batch, as in training; dropout and all other layers are as in evaluation. Mean and variance
    are pooled over all rows, each row with equal weight, so they do not depend on how the last batch falls.

    Args:
        inputs: name → array (n, ...), rows of the training split.
        forward: (module, name → tensor) → logits.
        batch_size: 2 or more, since one row alone has no variance.

    Returns:
        How many batch norms were re-estimated; 0 if the model has none that keeps running statistics.

    Raises:
        UnsupportedError: no rows, or so few that a batch norm sees one value a channel. The statistics are unchanged.
    """
    model.eval()
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not layers:
        return 0
    rows = len(next(iter(inputs.values())))
    if rows == 0 or batch_size < 2:
        raise UnsupportedError(
            f"batch norm cannot be re-estimated from {rows} rows in batches of {batch_size}",
            where=type(model).__name__,
            fix="give two training rows or more, and a batch size of two or more",
        )
    with _normalizing_by_batch(layers) as moments:
        for part in np.array_split(np.arange(rows), max(1, rows // batch_size)):
            batch = {name: torch.from_numpy(np.ascontiguousarray(values[part])) for name, values in inputs.items()}
            _run(model, batch, forward)
    reached = [layer for layer in layers if moments[layer].count]
    for layer in reached:
        moments[layer].write(layer)
    return len(reached)


def _run(model: nn.Module, batch: dict[str, Tensor], forward: Forward) -> None:
    try:
        forward(model, batch)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UnsupportedError(
            f"batch norm cannot be re-estimated: {error}",
            where=type(model).__name__,
            fix="give two training rows or more",
        ) from None


@contextmanager
def _normalizing_by_batch(layers: list[_BatchNorm]) -> Iterator[dict[_BatchNorm, _Moments]]:
    """Batch norms normalize by batch and leave their buffers alone; what they are fed is gathered."""
    moments = {layer: _Moments() for layer in layers}

    def gather(layer: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        assert isinstance(layer, _BatchNorm)
        moments[layer].add(args[0] if args else named["input"])

    hooks = [layer.register_forward_pre_hook(gather, with_kwargs=True) for layer in layers]
    try:
        for layer in layers:
            # With tracking off, PyTorch neither reads nor updates the running statistics in training mode.
            layer.training, layer.track_running_stats = True, False
        yield moments
    finally:
        for layer, hook in zip(layers, hooks, strict=True):
            layer.training, layer.track_running_stats = False, True
            hook.remove()
