"""Gradients of the loss on the whole model, which the Taylor criterion multiplies with the weights.

They are taken once, before anything is cut, and kept by parameter name. `hold` puts them where autograd would, in
`.grad` of a copy's parameters; Torch-Pruning cuts `.grad` together with the parameter, so replaying a history on a
copy that holds its gradients cuts both alike.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from trimtab.data import Split
from trimtab.errors import UnsupportedError
from trimtab.optimize.losses import plain_loss
from trimtab.optimize.predicting import Forward

ROWS = 512  # enough for a ranking of channels
BATCH = 16  # small: over a large batch the gradients of a trained model cancel out
Gradients = Mapping[str, Tensor]


def loss_gradients(model: nn.Module, data: Split | None, forward: Forward, seed: int = 0) -> dict[str, Tensor]:
    """Root mean square over mini-batches of the gradient of the plain loss, in evaluation mode.

    The gradient of a trained model is near zero in the mean; how far it goes from zero from batch to batch says what
    the loss would notice. The model is left as it was.

    Args:
        data: labelled training rows; up to 512 of them are drawn.
        forward: (module, name → tensor) → logits (n, classes).
        seed: of the draw.

    Returns:
        Parameter name → tensor of the parameter's shape and dtype; zeros where the loss does not depend on it.

    Raises:
        UnsupportedError: no data, or no gradient reaches any parameter.
    """
    if data is None or len(data) == 0:
        raise UnsupportedError(
            "the taylor criterion needs labelled training rows, none were given",
            where="compress.prune.norms",
            fix='give `data`, or take a criterion that needs none, such as "l1"',
        )
    probe = copy.deepcopy(model).eval()
    for parameter in probe.parameters():
        parameter.requires_grad_(True)
    chosen = np.random.default_rng(seed).permutation(len(data))[:ROWS]
    squares = {name: torch.zeros_like(parameter) for name, parameter in probe.named_parameters()}
    for start in range(0, len(chosen), BATCH):
        part = chosen[start : start + BATCH]
        _backward(probe, data.take(part), forward)
        for name, parameter in probe.named_parameters():
            if parameter.grad is not None:
                squares[name] += parameter.grad.square() * (len(part) / len(chosen))
    return {name: square.sqrt() for name, square in squares.items()}


def hold(model: nn.Module, gradients: Gradients) -> None:
    """Put gradients into `.grad` of the parameters they are named after; the model must not be cut yet."""
    for name, gradient in gradients.items():
        model.get_parameter(name).grad = gradient.clone()


def _backward(model: nn.Module, part: Split, forward: Forward) -> None:
    inputs = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in part.inputs.items()}
    model.zero_grad(set_to_none=True)
    with torch.enable_grad():
        loss = plain_loss(forward(model, inputs), torch.from_numpy(part.labels))
    if not loss.requires_grad:
        raise UnsupportedError(
            "no gradient of the loss reaches a parameter, so the taylor criterion cannot rank channels",
            where=type(model).__name__,
            fix="take another criterion in compress.prune.norms, or see that forward is not under torch.no_grad",
        )
    torch.autograd.backward(loss)
