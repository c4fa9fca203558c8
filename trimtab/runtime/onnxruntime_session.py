"""ONNX Runtime on any execution provider: a session of `model.onnx`, and the Predictor around it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

# `import onnxruntime` (1.32, Linux too) makes a device id below ~/.cache/Microsoft and starts an uploader of usage
# events; disable_telemetry_events() comes too late for the first, this comes before both.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

# bundle: drop
from trimtab.runtime.door import check_inputs, load_spec

# bundle: keep

CPU_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3
Provider = tuple[str, dict[str, str]]  # name and options


class SessionPredictor:
    """A model on the execution providers of a subclass.

    Reentrant: `InferenceSession.run` keeps no state between calls, so one predictor serves any number of threads.

    Attributes:
        providers: in order of preference; what the first cannot compute falls to the next.
        spec: inputs and outputs, as in spec.json.
        reentrant: whether `predict` may be called from several threads at once.
    """

    providers: ClassVar[Sequence[Provider]] = ((CPU_PROVIDER, {}),)
    reentrant = True

    def __init__(self, session: onnxruntime.InferenceSession, spec: dict[str, Any]) -> None:
        self.spec = spec
        self._session = session
        self._outputs = [tensor["name"] for tensor in spec["outputs"]]

    @classmethod
    def load(cls, folder: Path, threads: int) -> SessionPredictor:
        """Open `folder` with `threads` threads inside an operator and operators one after the other.

        Raises:
            RuntimeError: the first provider is not the one that computes.
        """
        spec = load_spec(Path(folder))
        return cls(new_session(Path(folder) / "model.onnx", threads, cls.providers), spec)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...).

        Raises:
            InputError: the inputs do not fit the specification.
        """
        values = self._session.run(self._outputs, check_inputs(self.spec, inputs))
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}


def new_session(path: Path, threads: int, providers: Sequence[Provider]) -> onnxruntime.InferenceSession:
    """A session of an ONNX file: `threads` inside an operator, operators one after the other.

    Raises:
        RuntimeError: the session runs without the first provider. ONNX Runtime only prints that, and answers slowly.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    # By default a provider that fails is replaced by the CPU's, at the start or in the middle of a run.
    session = onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
    wanted, found = providers[0][0], session.get_providers()
    if found[:1] != [wanted]:
        raise RuntimeError(f"ONNX Runtime fell back from {wanted} to {found}: its libraries or its device are missing")
    return session


def missing_provider(name: str) -> str:
    """Why an NVIDIA provider cannot be used on this machine; "" if it can."""
    offered = onnxruntime.get_available_providers()
    if name not in offered:
        return f"this build of onnxruntime offers {', '.join(offered)}, not {name}"
    return "" if cuda_devices() else "there is no CUDA device, or its driver cannot be loaded"


def cuda_devices() -> int:
    """Number of CUDA devices the driver shows, asked without torch; 0 if there is no driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
