"""Logits of a module for arrays, in batches, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from trimtab.errors import ModelError
from trimtab.preprocess import Ask, logits
from trimtab.recipe.schema import Preprocess

Array = np.ndarray
Forward = Callable[[nn.Module, dict[str, Tensor]], Tensor]


def everything(forward: Forward, model: nn.Module, rows: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """All outputs that a release of the module keeps, the one that decides first; a plain function has that alone."""
    return forward.everything(model, rows) if isinstance(forward, Ask) else (forward(model, rows),)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, for a while."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


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
    # no_grad, not inference_mode: the answer may be a target in a later loss.
    with evaluating(model), torch.no_grad():
        answers = [
            forward(model, {name: value[start : start + batch] for name, value in inputs.items()})
            for start in range(0, rows, batch)
        ]
    joined = torch.cat(answers).float()
    if joined.ndim != 2 or len(joined) != rows:
        raise ModelError(
            f"{rows} rows gave an output of shape {tuple(joined.shape)}",
            where=type(model).__name__,
            fix="return logits of shape (n, classes) from forward",
        )
    return joined
