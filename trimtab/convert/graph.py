"""The graph that is deployed: raw inputs → pre-processing → the user's module → softmax → probabilities.

Of a regression it ends with the module's numbers, called "prediction". What the recipe keeps beside that follows it. It
is built once as a torch module; every format is made from it, so every runtime answers the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trimtab.errors import UnsupportedError
from trimtab.free_axes import FIXED, Axes, FreeAxis, by_name, traceable
from trimtab.further import further_outputs
from trimtab.outputs import ONE, Outputs
from trimtab.preprocess import SINGLE_INPUT, Ask
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.eager import call, several
from trimtab.task import PREDICTION, PROBABILITIES

Array = NDArray[Any]
OUTPUT = PROBABILITIES


class Deployed(nn.Module):
    """A user's module with its pre-processing before and softmax after it.

    Args:
        model: gives logits (batch, classes), and what else is in `outputs`.
        preprocess: as in the recipe. outputs: which of the module's outputs are meant.

    Attributes:
        output: what the answer is called. answers: names of all outputs, that first.
    """

    output = PROBABILITIES

    def __init__(self, model: nn.Module, preprocess: Preprocess, outputs: Outputs = ONE) -> None:
        super().__init__()
        self.model = model
        self.preprocess = preprocess
        self.kept = outputs
        self.answers = (self.output, *outputs.also)  # no property: torch.jit.trace would compile it

    def forward(self, *single: Tensor, **named: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Probabilities float32 (batch, classes) for one input by position, or several by keyword.

        With further outputs a tuple of all, float32, in the order of `answers`.
        """
        inputs = {SINGLE_INPUT: single[0]} if single else named
        ask = Ask(self.preprocess, self.output == PREDICTION, self.kept)
        decides, *others = (value.float() for value in ask.everything(self.model, inputs))
        return (self.finished(decides), *others) if others else self.finished(decides)

    def finished(self, decides: Tensor) -> Tensor:
        """What the deciding output becomes."""
        return torch.softmax(decides, dim=1)


class DeployedNumbers(Deployed):
    """A regression with its pre-processing before it, and nothing after: numbers float32 (batch, k)."""

    output = PREDICTION

    def finished(self, decides: Tensor) -> Tensor:
        """The numbers as they are."""
        return decides


class Positional(nn.Module):
    """A module with its inputs in a fixed order, as exporters and traced graphs take them."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.names = tuple(names)

    def forward(self, *values: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The module's answer for values in the order of the names."""
        return call(self.module, dict(zip(self.names, values, strict=True)))


def deployed(model: nn.Module, preprocess: Preprocess, regression: bool = False, outputs: Outputs = ONE) -> nn.Module:
    """The deployed graph of a model, in eval mode; it shares the model's weights, and puts the model in eval mode."""
    return (DeployedNumbers if regression else Deployed)(model, preprocess, outputs).eval()


def output_of(module: nn.Module) -> str:
    """What a deployed module's answer is called; "probabilities" unless it says otherwise."""
    return str(getattr(module, "output", OUTPUT))


def outputs_of(module: nn.Module) -> list[str]:
    """Names of all outputs of a deployed module, the one that decides first."""
    return list(getattr(module, "answers", [output_of(module)]))


def measured_spec(module: nn.Module, example: Mapping[str, Array], axes: Axes = FIXED) -> dict[str, Any]:
    """As `spec_of`, with the outputs that a deployed module gives for these rows.

    Raises:
        UnsupportedError: as `spec_of`. ModelError: an output cannot be kept.
    """
    names = outputs_of(module)
    runner = Positional(module, list(example)).eval()

    def answers(rows: Mapping[str, Array]) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return several(runner(*(torch.from_numpy(np.ascontiguousarray(values)) for values in rows.values())))

    decides = answers(traceable(example, axes))[0]
    further = further_outputs(lambda rows: answers(rows)[1:], names[1:], example, axes)
    return spec_of(example, int(decides.shape[1]), names[0], axes, further)


def spec_of(
    example: Mapping[str, Array],
    classes: int,
    output: str = OUTPUT,
    axes: Axes = FIXED,
    further: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What goes into spec.json: name, dtype and shape of each input (batch first) and of each output.

    Args:
        classes: numbers a row of the output that decides, which comes first.
        output: what that is called, as `output_of` the module.
        axes: those of inputs that may change; with any, "axes" has their bounds.
        further: outputs beside it, as they stand in spec.json.

    Raises:
        UnsupportedError: an input's dtype is not float32, int64 or bool.
    """
    for name, values in example.items():
        if values.dtype.name not in ("float32", "int64", "bool"):
            raise UnsupportedError(
                f"dtype {values.dtype}", where=f"input {name!r}", fix="give float32, int64 or bool arrays"
            )
    inputs = [
        {"name": name, "dtype": values.dtype.name, "shape": _shape(values, axes.get(name, {}))}
        for name, values in example.items()
    ]
    outputs = [{"name": output, "dtype": "float32", "shape": ["batch", classes]}, *map(dict, further)]
    bounds = {axis.name: [axis.low, axis.high] for axis in by_name(axes).values()}
    return {"inputs": inputs, "outputs": outputs, **({"axes": bounds} if bounds else {})}


def _shape(values: Array, free: Mapping[int, FreeAxis]) -> list[str | int]:
    sizes = [free[place].name if place in free else int(size) for place, size in enumerate(values.shape)]
    return ["batch", *sizes[1:]]


def example_tensors(example: Mapping[str, Array], least: int = 2, axes: Axes = FIXED) -> tuple[Tensor, ...]:
    """The example's inputs in order, repeated to at least `least` rows, free axes to at least two.

    Exporters take a size of 1 for a constant, so nothing is ever traced with a batch of one.
    """
    example = traceable(example, axes)
    rows = len(next(iter(example.values())))
    index = np.arange(max(rows, least)) % rows
    return tuple(torch.from_numpy(np.ascontiguousarray(values[index])) for values in example.values())


def refuse_unfit(module: nn.Module) -> None:
    """Refuse layers whose answer for a row depends on the rows beside it.

    Raises:
        UnsupportedError: batch norm without running statistics, naming each such layer.
    """
    layers = [
        f"{name} ({type(layer).__name__})"
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and (layer.running_mean is None or layer.running_var is None)
    ]
    if layers:
        raise UnsupportedError(
            "batch norm without running statistics normalises by the batch it is served in, so a row's answer would "
            "depend on the rows beside it",
            where=", ".join(layers),
            fix="build the layer with track_running_stats=True and train it, or use group or layer norm",
        )
