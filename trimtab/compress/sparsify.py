"""Unstructured pruning: the weights of least magnitude are set to zero; no shape changes, and nothing gets faster.

Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", arXiv:1506.02626. Weights of
different layers are compared as in Lee et al. 2021, "Layer-Adaptive Sparsity for the Magnitude-Based Pruning" (LAMP),
arXiv:2010.07611: the square of a weight over the sum of the squares of all in its layer that are no smaller. So the
largest of every layer scores 1; by bare magnitude a layer of small weights would be emptied. The runtimes here multiply
by zero as by any number; what is gained is a file that `pack_sparse` stores without the zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trimtab.errors import UnsupportedError
from trimtab.recipe.compressing import Scope

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


@torch.no_grad()
def sparsify(model: nn.Module, sparsity: float, scope: Scope = "global") -> dict[str, Any]:
    """Set the weights of convolutions and linear layers that are nearest to zero to zero, in place.

    Args:
        sparsity: share of these weights that are zero afterwards, 0 ≤ sparsity < 1 (rounded to whole weights). More
            are zero if more were. Biases, norms, embeddings and recurrent layers are left alone.
        scope: "layer": that share of every layer; "global": of all together, by their LAMP scores.

    Returns:
        Facts: {"sparsity": achieved share, "zeros": how many weights are zero, "weights": of how many}.

    Raises:
        UnsupportedError: the model has no such weights, or a layer would lose all of them. The model is unchanged.
    """
    weights = _weights(model)
    if not weights:
        raise UnsupportedError(
            "no weight can be set to zero: there is no convolution or linear layer",
            where=type(model).__name__,
            fix="set compress.sparsify to null for this model",
        )
    scores = {name: _lamp(weight.detach()) for name, weight in weights.items()}
    parts = [scores] if scope == "global" else [{name: score} for name, score in scores.items()]
    masks = {name: mask for part in parts for name, mask in _lowest(part, sparsity).items()}
    if emptied := [name for name, mask in masks.items() if mask.all()]:
        raise UnsupportedError(
            f"at a sparsity of {sparsity:g} no weight is left in {', '.join(emptied)}",
            where=type(model).__name__,
            fix="lower compress.sparsify.sparsities" + (', or set its scope to "layer"' if scope == "global" else ""),
        )
    for name, mask in masks.items():
        weights[name].masked_fill_(mask, 0.0)
    zeros, total = (sum(int(f(w)) for w in weights.values()) for f in (lambda w: (w == 0).sum(), torch.numel))
    return {"sparsity": zeros / total, "zeros": zeros, "weights": total}


@contextmanager
def zeros_kept(model: nn.Module) -> Iterator[None]:
    """While it is trained, weights of convolutions and linear layers that are zero now stay zero.

    Their gradients are set to zero. A weight of zero with a gradient of zero stays where it is under every optimizer
    of torch.optim that the recipe names: momentum and moments of it are zero, and so is its decay.
    """
    hooks = [weight.register_hook(partial(_without, weight == 0)) for weight in _weights(model).values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _without(zero: Tensor, gradient: Tensor) -> Tensor:
    return gradient.masked_fill(zero, 0.0)


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name → weight of each convolution and linear layer; one that layers share, once."""
    found = {id(m.weight): (name, m.weight) for name, m in model.named_modules() if isinstance(m, LAYERS)}
    return dict(found.values())


def _lamp(weight: Tensor) -> Tensor:
    """Score of each weight, float64 in its shape; it rises with the magnitude, of equals with the place."""
    squares, order = torch.sort(weight.flatten().double().square(), stable=True)
    no_smaller = squares.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(squares)
    scores[order] = squares / no_smaller.clamp_min(torch.finfo(torch.float64).tiny)
    return scores.view(weight.shape)


def _lowest(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Name → mask of the share of all these weights that scores lowest; of equals the first, so masks are nested."""
    every = torch.cat([score.flatten() for score in scores.values()])
    mask = torch.zeros(len(every), dtype=torch.bool)
    mask[torch.argsort(every, stable=True)[: round(sparsity * len(every))]] = True
    parts = mask.split([score.numel() for score in scores.values()])
    return {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}
