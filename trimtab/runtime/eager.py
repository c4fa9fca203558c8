"""Eager PyTorch: the uncompressed baseline that everything is compared with; never part of a release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from trimtab.runtime.door import check_inputs

SINGLE_INPUT = "input"


class Predictor:
    """A deployed torch module, called as it is.

    Not reentrant: user code may keep state in the module. Threads are a setting of torch for the whole process, as
    for TorchScript.

    Args:
        module: takes a single input called "input" by position, several by keyword; it is put in eval mode.
        spec: inputs and outputs, as in spec.json.
        threads: for all of torch in this process.
    """

    reentrant = False

    def __init__(self, module: torch.nn.Module, spec: dict[str, Any], threads: int) -> None:
        self.spec = spec
        self.module = module.eval()
        self._threads = threads
        self._outputs = [tensor["name"] for tensor in spec["outputs"]]

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...).

        Raises:
            InputError: the inputs do not fit the specification.
        """
        ready = {name: torch.tensor(array) for name, array in check_inputs(self.spec, inputs).items()}
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            answers = several(call(self.module, ready))
        return {name: answer.numpy() for name, answer in zip(self._outputs, answers, strict=True)}


def call(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """The module's answer: a single input called "input" by position, everything else by keyword."""
    if set(inputs) == {SINGLE_INPUT}:
        return module(inputs[SINGLE_INPUT])
    return module(**inputs)


def several(answer: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """All outputs of a deployed module, the one that decides first, where it may be one alone."""
    return answer if isinstance(answer, tuple) else (answer,)
