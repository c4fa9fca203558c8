"""The one implementation of preprocess → module: training, pruning, prediction and every converted graph use it.

Numeric pre-processing is part of the deployed graph, so that what a runtime answers for raw inputs is what the
model was trained on. Worked example: scale 1/16, mean [0.5], std [0.25] maps a pixel 12 to (12/16 - 0.5) / 0.25 = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trimtab.errors import ModelError
from trimtab.outputs import ONE, Outputs
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.picking import leaves, picked
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


def logits(model: nn.Module, inputs: Mapping[str, Tensor], preprocess: Preprocess, outputs: Outputs = ONE) -> Tensor:
    """Logits (n, classes) of the user's module for raw inputs.

    A single input called "input" is passed by position, everything else by keyword.

    Raises:
        ModelError: forward returned no tensor, or none at the path; what to write in the recipe is said.
    """
    return _chosen(_called(model, inputs, preprocess), outputs.answer, model)


def numbers(model: nn.Module, inputs: Mapping[str, Tensor], preprocess: Preprocess, outputs: Outputs = ONE) -> Tensor:
    """As `logits`, of a regression: (n, k). A module that answers (n,) is taken for one of k = 1.

    Kept as (n,), its difference from labels (n, 1) would broadcast to (n, n), and every loss of it be wrong.
    """
    return _column(logits(model, inputs, preprocess, outputs))


@dataclass(frozen=True)
class Ask:
    """Raw rows through a module of the user's, as training, compression and every converted graph ask it.

    Attributes:
        regression: whether numbers are asked for, not logits.
    """

    preprocess: Preprocess
    regression: bool = False
    outputs: Outputs = ONE

    def __call__(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """What decides: `logits`, or `numbers`."""
        return (numbers if self.regression else logits)(model, inputs, self.preprocess, self.outputs)

    def everything(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What decides, and after it what is kept beside it, in the recipe's order.

        Raises:
            ModelError: as `logits`.
        """
        answer = _called(model, inputs, self.preprocess)
        decides = _chosen(answer, self.outputs.answer, model)
        others = (_chosen(answer, path, model) for path in self.outputs.also.values())
        return (_column(decides) if self.regression else decides, *others)


def _called(model: nn.Module, inputs: Mapping[str, Tensor], preprocess: Preprocess) -> Any:
    ready = prepare(inputs, preprocess)
    return model(ready[SINGLE_INPUT]) if set(ready) == {SINGLE_INPUT} else model(**ready)


def _column(answer: Tensor) -> Tensor:
    return answer.unsqueeze(1) if answer.ndim == 1 else answer


def _chosen(answer: Any, path: str | None, model: nn.Module) -> Tensor:
    try:
        return picked(answer, path)
    except LookupError as error:
        raise ModelError(error.args[0], where=type(model).__name__, fix=_what_to_write(answer, path)) from None


def _what_to_write(answer: Any, path: str | None) -> str:
    tensors = [name for name, value in leaves(answer).items() if name and isinstance(value, Tensor)]
    if not tensors:
        return "leave model.answer and model.also out" if isinstance(answer, Tensor) else "return tensors from forward"
    if path is not None:
        return f"correct the path in model.answer or model.also: there are {', '.join(tensors)}"
    kept = ", and others that the release shall have under model.also: {name: path}" if len(tensors) > 1 else ""
    return f"write which of {', '.join(tensors)} decides, e.g. model.answer: {tensors[0]}{kept}"
