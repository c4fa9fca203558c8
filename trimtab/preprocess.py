"""The one implementation of preprocess → module: training, pruning, prediction and every converted graph use it.

Numeric pre-processing is part of the deployed graph, so that what a runtime answers for raw inputs is what the
model was trained on. Worked example: scale 1/16, mean [0.5], std [0.25] maps a pixel 12 to (12/16 - 0.5) / 0.25 = 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from trimtab.errors import ModelError
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.preprocessing import SINGLE_INPUT, is_transformed, transform


def is_identity(preprocess: Preprocess) -> bool:
    """True when the section changes nothing."""
    return preprocess.scale == 1.0 and preprocess.mean is None and preprocess.std is None


def apply(preprocess: Preprocess, tensor: Tensor) -> Tensor:
    """(x * scale - mean) / std, in this order, in float32 (or the float type that is given).

    Args:
        preprocess: mean and std have one value, or one a channel (axis 1; axis 0 of a rank-1 tensor is the batch).
        tensor: (n, channels, ...), any dtype; integers and bools are cast to float32 unless nothing is to be done.

    Raises:
        ModelError: the number of means or standard deviations is neither 1 nor the number of channels.
    """
    try:
        return transform(tensor, preprocess.scale, preprocess.mean, preprocess.std)
    except ValueError as error:
        key, _, what = str(error).partition(": ")
        channels = tensor.shape[1] if tensor.ndim > 1 else 1
        raise ModelError(what, where=f"preprocess.{key}", fix=f"give 1 or {channels} values") from None


def prepare(inputs: Mapping[str, Tensor], preprocess: Preprocess) -> dict[str, Tensor]:
    """Every input after pre-processing.

    Which are transformed: see `trimtab.runtime.preprocessing.is_transformed`.
    """
    return {
        name: apply(preprocess, value) if is_transformed(value, inputs) else value for name, value in inputs.items()
    }


def logits(model: nn.Module, inputs: Mapping[str, Tensor], preprocess: Preprocess) -> Tensor:
    """Logits (n, classes) of the user's module for raw inputs.

    A single input called "input" is passed by position, everything else by keyword.
    """
    ready = prepare(inputs, preprocess)
    if set(ready) == {SINGLE_INPUT}:
        answer = model(ready[SINGLE_INPUT])
    else:
        answer = model(**ready)
    if not isinstance(answer, Tensor):
        raise ModelError(
            f"forward returned {type(answer).__name__}, not a tensor of logits",
            where=type(model).__name__,
            fix="return one tensor (n, classes) from forward",
        )
    return answer


def numbers(model: nn.Module, inputs: Mapping[str, Tensor], preprocess: Preprocess) -> Tensor:
    """As `logits`, of a regression: (n, k). A module that answers (n,) is taken for one of k = 1.

    Kept as (n,), its difference from labels (n, 1) would broadcast to (n, n), and every loss of it be wrong.
    """
    answer = logits(model, inputs, preprocess)
    return answer.unsqueeze(1) if answer.ndim == 1 else answer
