"""ExecuTorch on the CPU with XNNPACK: `model.pte` of a converted folder.

Memory is planned at conversion, for a largest batch that the file itself knows; more rows are answered by several calls
of the runtime.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Program, Runtime
from numpy.typing import NDArray

# bundle: drop
from trimtab.runtime.door import check_inputs, load_spec

# bundle: keep

# Of the whole process: its methods share XNNPACK's workspace and one thread pool.
_LOCK = threading.Lock()


class Predictor:
    """The method `forward` of an ExecuTorch program.

    Reentrant: the runtime is not, so calls at the same time wait for one another, also those of other predictors.

    The number of threads is that of one thread pool for the process: `predict` sets it when it finds another, so
    predictors with different counts may share a process.

    Attributes:
        spec: inputs and outputs, as in spec.json; inputs are passed by position in this order.
        reentrant: whether `predict` may be called from several threads at once.
        largest: rows that one call of the runtime takes.
    """

    reentrant = True

    def __init__(self, program: Program, spec: dict[str, Any], threads: int) -> None:
        self.spec = spec
        self._program = program  # a method does not keep it alive
        self._method = program.load_method("forward")
        self._threads = threads
        self.largest = int(program.metadata("forward").input_tensor_meta(0).sizes()[0])
        self._inputs = [tensor["name"] for tensor in spec["inputs"]]
        self._output = spec["outputs"][0]["name"]

    @classmethod
    def load(cls, folder: Path, threads: int) -> Predictor:
        """Open `folder`; `threads` are those of the process's pool while this predictor runs."""
        spec = load_spec(Path(folder))
        with _LOCK:
            # From bytes: a program of a file reads from it as long as it lives.
            return cls(Runtime.get().load_program((Path(folder) / "model.pte").read_bytes()), spec, threads)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...); the arrays are copies, safe to keep.

        Raises:
            InputError: the inputs do not fit the specification.
        """
        ready = check_inputs(self.spec, inputs)
        rows = len(next(iter(ready.values())))
        parts = []
        with _LOCK:
            if portable_lib._threadpool_get_thread_count() != self._threads:
                portable_lib._unsafe_reset_threadpool(self._threads)
            for start in range(0, rows, self.largest):
                values = [_tensor(ready[name][start : start + self.largest]) for name in self._inputs]
                parts.append(np.array(self._method.execute(values)[0].numpy()))
        return {self._output: parts[0] if len(parts) == 1 else np.concatenate(parts)}


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # from_numpy warns about read-only arrays (a row of a memory map, a decoded buffer): those are copied.
    return torch.from_numpy(array if array.flags.writeable else np.array(array))
