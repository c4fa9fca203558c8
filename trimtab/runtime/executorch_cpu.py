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
from executorch.runtime import Runtime
from numpy.typing import NDArray

# bundle: drop
from trimtab.runtime.door import check_inputs, load_spec

# bundle: keep


class _Pool:
    """The one thread pool of the process, which XNNPACK's operators point to from the moment a method is loaded.

    Resetting it frees the old one: a method loaded before then uses freed memory (1.5.1: a crash, or wrong numbers
    without an error), so each remembers the pool it was loaded with, and is loaded again for another.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.number = 0

    def resize(self, threads: int) -> int:
        """Give it `threads` threads; returns the pool's number. Called under the lock."""
        if portable_lib._threadpool_get_thread_count() != threads:
            portable_lib._unsafe_reset_threadpool(threads)
            self.number += 1
        return self.number


_POOL = _Pool()


class Predictor:
    """The method `forward` of an ExecuTorch program.

    Reentrant: the runtime is not, so calls at the same time wait for one another, also those of other predictors.

    The number of threads is that of one pool for the process: `predict` sets it when it finds another, and then loads
    the program again, so predictors with different counts may share a process but not take turns quickly.

    Attributes:
        spec: inputs and outputs, as in spec.json; inputs are passed by position in this order.
        reentrant: whether `predict` may be called from several threads at once.
        largest: rows that one call of the runtime takes.
    """

    reentrant = True

    def __init__(self, content: bytes, spec: dict[str, Any], threads: int) -> None:
        self.spec = spec
        self._content = content
        self._threads = threads
        self._inputs = [tensor["name"] for tensor in spec["inputs"]]
        self._output = spec["outputs"][0]["name"]
        with _POOL.lock:
            self._open(_POOL.resize(threads))
            self.largest = int(self._program.metadata("forward").input_tensor_meta(0).sizes()[0])

    def _open(self, pool: int) -> None:
        self._program = Runtime.get().load_program(self._content)  # a method does not keep it alive
        self._method = self._program.load_method("forward")
        self._pool = pool

    @classmethod
    def load(cls, folder: Path, threads: int) -> Predictor:
        """Open `folder`; `threads` are those of the process's pool while this predictor runs."""
        return cls((Path(folder) / "model.pte").read_bytes(), load_spec(Path(folder)), threads)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...); the arrays are copies, safe to keep.

        Raises:
            InputError: the inputs do not fit the specification.
        """
        ready = check_inputs(self.spec, inputs)
        rows = len(next(iter(ready.values())))
        parts = []
        with _POOL.lock:
            if (pool := _POOL.resize(self._threads)) != self._pool:
                self._open(pool)
            for start in range(0, rows, self.largest):
                values = [_tensor(ready[name][start : start + self.largest]) for name in self._inputs]
                parts.append(np.array(self._method.execute(values)[0].numpy()))
        return {self._output: parts[0] if len(parts) == 1 else np.concatenate(parts)}


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    # from_numpy warns about read-only arrays (a row of a memory map, a decoded buffer): those are copied.
    return torch.from_numpy(array if array.flags.writeable else np.array(array))
