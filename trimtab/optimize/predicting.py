"""Logits of a module for arrays, in batches, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from trimtab.errors import ModelError
from trimtab.preprocess import logits
from trimtab.recipe.schema import Preprocess

Array = np.ndarray
Forward = Callable[[nn.Module, dict[str, Tensor]], Tensor]


def predict_logits(model: nn.Module, inputs: Mapping[str, Array], preprocess: Preprocess, batch: int = 256) -> Array:
    """Logits float32 (n, classes) for raw inputs, name → array (n, ...), computed in evaluation mode.

    Raises:
        ModelError: forward does not return one row of logits for each row.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in inputs.items()}
    return predict(model, tensors, lambda module, rows: logits(module, rows, preprocess), batch).numpy()


def predict(model: nn.Module, inputs: Mapping[str, Tensor], forward: Forward, batch: int = 256) -> Tensor:
    """As `predict_logits`, with tensors and the caller's own forward; the model's mode is as before afterwards."""
    rows = len(next(iter(inputs.values())))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # no_grad, not inference_mode: the answer may be a target in a later loss.
        with torch.no_grad():
            answers = [
                forward(model, {name: value[start : start + batch] for name, value in inputs.items()})
                for start in range(0, rows, batch)
            ]
    finally:
        for module, training in modes.items():
            module.training = training
    joined = torch.cat(answers).float()
    if joined.ndim != 2 or len(joined) != rows:
        raise ModelError(
            f"{rows} rows gave an output of shape {tuple(joined.shape)}",
            where=type(model).__name__,
            fix="return logits of shape (n, classes) from forward",
        )
    return joined
