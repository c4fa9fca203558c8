"""TorchScript on the CPU: `model.pt` of a converted folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# bundle: drop
from trimtab.runtime.door import check_inputs, load_spec

# bundle: keep


class Predictor:
    """A traced torch module.

    Reentrant: the graph is frozen and inference mode belongs to the calling thread.

    The number of threads is a setting of torch for the whole process (`torch.set_num_threads`), not of one model:
    `predict` sets it when it finds another, so predictors with different counts may share a process one after the
    other, but calls at the same time run with whichever count was set last.

    Attributes:
        spec: inputs and outputs, as in spec.json; inputs are passed by position in this order.
        reentrant: whether `predict` may be called from several threads at once.
    """

    reentrant = True

    def __init__(self, module: torch.jit.ScriptModule, spec: dict[str, Any], threads: int) -> None:
        self.spec = spec
        self._module = module
        self._threads = threads
        self._inputs = [tensor["name"] for tensor in spec["inputs"]]
        self._outputs = [tensor["name"] for tensor in spec["outputs"]]

    @classmethod
    def load(cls, folder: Path, threads: int) -> Predictor:
        """Open `folder`; `threads` holds for all of torch in this process."""
        spec = load_spec(Path(folder))
        module = torch.jit.load(str(Path(folder) / "model.pt"), map_location="cpu").eval()
        return cls(module, spec, threads)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...).

        Raises:
            InputError: the inputs do not fit the specification.
        """
        ready = check_inputs(self.spec, inputs)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            answer = self._module(*(_tensor(ready[name]) for name in self._inputs))
        answers = answer if isinstance(answer, tuple) else (answer,)
        return {name: value.numpy() for name, value in zip(self._outputs, answers, strict=True)}


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # from_numpy warns about read-only arrays (a row of a memory map, a decoded buffer): those are copied.
    return torch.from_numpy(array if array.flags.writeable else np.array(array))
