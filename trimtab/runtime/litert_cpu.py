"""LiteRT on the CPU: `model.tflite` of a converted folder.

The file holds the same model at a few fixed batch sizes, one signature each ("batch_1", "batch_8", …), which share
their weights: XNNPACK plans a fixed shape once, and litert-torch 0.10 cannot lower most models with a dynamic batch.
Any number of rows is answered by several calls, the last of which may be filled up with copies of the last row.

A file in INT8 takes and gives 8 bits where nothing in float stands before or behind them; they are floats at our door.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

# bundle: drop
from trimtab.runtime.door import InputError, check_inputs, load_spec

# bundle: keep

_SIGNATURE = "batch_"


class Predictor:
    """A LiteRT interpreter with XNNPACK.

    Reentrant: an interpreter is not, so calls at the same time wait for one another.

    Attributes:
        spec: inputs and outputs, as in spec.json. LiteRT has 32-bit integers: values beyond them are refused.
        reentrant: whether `predict` may be called from several threads at once.
        sizes: the batch sizes of the file, ascending; 1 is among them.
    """

    reentrant = True

    def __init__(self, interpreter: Interpreter, spec: dict[str, Any]) -> None:
        self.spec = spec
        self._output = spec["outputs"][0]["name"]
        self._lock = threading.Lock()
        self.sizes = sorted(int(key.removeprefix(_SIGNATURE)) for key in interpreter.get_signature_list())
        self._runners = {size: interpreter.get_signature_runner(f"{_SIGNATURE}{size}") for size in self.sizes}
        details = self._runners[1].get_input_details()
        places = [(tensor["name"], f"args_{place}") for place, tensor in enumerate(spec["inputs"])]
        # An input that does not influence the answer may be missing in the file.
        self._taken = {name: (key, details[key]) for name, key in places if key in details}
        (self._given,) = self._runners[1].get_output_details().values()

    @classmethod
    def load(cls, folder: Path, threads: int) -> Predictor:
        """Open `folder` for `threads` threads inside an operator."""
        spec = load_spec(Path(folder))
        return cls(Interpreter(model_path=str(Path(folder) / "model.tflite"), num_threads=threads), spec)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...); the arrays are copies, safe to keep.

        Raises:
            InputError: the inputs do not fit the specification, or an integer does not fit in 32 bits.
        """
        ready = check_inputs(self.spec, inputs)
        narrowed = {key: _narrowed(name, ready[name], detail) for name, (key, detail) in self._taken.items()}
        rows = len(next(iter(ready.values())))
        parts = []
        with self._lock:
            for start, size in cut(rows, self.sizes):
                index = np.minimum(np.arange(start, start + size), rows - 1)
                (answer,) = self._runners[size](**{key: values[index] for key, values in narrowed.items()}).values()
                parts.append(answer[: rows - start])
        return {self._output: _widened(parts[0] if len(parts) == 1 else np.concatenate(parts), self._given)}


def cut(rows: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """How `rows` rows are answered in calls of fixed sizes: (first row, size) of each call.

    The largest size that fits goes first; a rest that fills three quarters of a size or more is filled up to it.

    Args:
        rows: ≥ 1. sizes: ascending, 1 among them.
    """
    calls, start = [], 0
    while start < rows:
        left = rows - start
        filled = [size for size in sizes if left <= size and 4 * left >= 3 * size]
        size = filled[0] if filled else max(size for size in sizes if size <= left)
        calls.append((start, size))
        start += size
    return calls


def _narrowed(name: str, array: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    """An input as the file takes it: `detail` has its dtype and, of an input in 8 bits, its scale and zero point."""
    dtype, (scale, zero) = np.dtype(detail["dtype"]), detail["quantization"]
    if array.dtype == dtype:
        return array
    if scale:
        ends = np.iinfo(dtype)
        steps = np.nan_to_num(np.rint(array / np.float32(scale)), nan=0.0)
        return np.clip(steps + zero, ends.min, ends.max).astype(dtype)
    narrow = array.astype(dtype)
    if not np.array_equal(narrow, array):
        raise InputError(f"input {name!r}: a value does not fit in {dtype}, which is what LiteRT computes with")
    return narrow


def _widened(answer: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    scale, zero = detail["quantization"]
    return (answer.astype(np.float32) - np.float32(zero)) * np.float32(scale) if scale else answer
