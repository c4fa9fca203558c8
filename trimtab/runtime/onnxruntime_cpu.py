"""ONNX Runtime on the CPU: `model.onnx` (and its side-files, if any) of a converted folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# `import onnxruntime` (1.32, Linux too) makes a device id below ~/.cache/Microsoft and starts an uploader of usage
# events; disable_telemetry_events() comes too late for the first, this comes before both.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

# bundle: drop
from trimtab.runtime.door import check_inputs, load_spec

# bundle: keep

_ERRORS_ONLY = 3


class Predictor:
    """A model on ONNX Runtime's CPU execution provider.

    Reentrant: `InferenceSession.run` keeps no state between calls, so one predictor serves any number of threads.

    Attributes:
        spec: inputs and outputs, as in spec.json.
        reentrant: whether `predict` may be called from several threads at once.
    """

    reentrant = True

    def __init__(self, session: onnxruntime.InferenceSession, spec: dict[str, Any]) -> None:
        self.spec = spec
        self._session = session
        self._outputs = [tensor["name"] for tensor in spec["outputs"]]

    @classmethod
    def load(cls, folder: Path, threads: int) -> Predictor:
        """Open `folder` with `threads` threads inside an operator and operators one after the other."""
        spec = load_spec(Path(folder))
        return cls(open_session(Path(folder) / "model.onnx", threads), spec)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...).

        Raises:
            InputError: the inputs do not fit the specification.
        """
        values = self._session.run(self._outputs, check_inputs(self.spec, inputs))
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session of an ONNX file on the CPU: `threads` inside an operator, operators one after the other."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
