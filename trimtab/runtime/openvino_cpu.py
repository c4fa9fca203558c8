"""OpenVINO on the CPU: `model.xml.gz` and `model.bin` or `model.bin.gz` of a converted folder.

The XML of a deep network with INT8 weights is as large as those weights, and shrinks to a tenth when compressed.
"""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# `import openvino` sends a usage event and writes to ~/intel (2026.4.1) unless openvino_telemetry cannot be
# imported; there is no setting for it. None in sys.modules makes exactly that import fail, in this process only.
if "openvino" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino

# bundle: drop
from trimtab.runtime.door import check_inputs, load_spec

# bundle: keep

_CONFIG = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    # The default on CPUs with bfloat16 units is bfloat16: other numbers than were verified. INT8 layers stay INT8.
    "INFERENCE_PRECISION_HINT": "f32",
    "CACHE_DIR": "",
}


def read_model(folder: Path, weights: openvino.Tensor | None = None) -> openvino.Model:
    """The model of a folder: `model.xml.gz` with its weights, or, as in older releases, `model.xml` with `model.bin`.

    Args:
        weights: the bytes of `model.bin`, which must outlive the model and what is compiled of it; None: they are read.

    Raises:
        OSError, EOFError, zlib.error: a file is missing or damaged.
        RuntimeError: OpenVINO cannot read the model.
    """
    compressed = folder / "model.xml.gz"
    if not compressed.is_file():
        return openvino.Core().read_model(str(folder / "model.xml"))
    found = _weights(folder) if weights is None else weights
    return openvino.Core().read_model(gzip.decompress(compressed.read_bytes()), found)


def _weights(folder: Path) -> bytes:
    packed = folder / "model.bin.gz"
    return gzip.decompress(packed.read_bytes()) if packed.is_file() else (folder / "model.bin").read_bytes()


class Predictor:
    """A model compiled by OpenVINO for the CPU.

    Reentrant: an infer request is not, so each calling thread has its own, made at its first call; with one
    stream, requests of several threads are computed one after the other.

    Attributes:
        spec: inputs and outputs, as in spec.json.
        reentrant: whether `predict` may be called from several threads at once.
    """

    reentrant = True

    def __init__(self, compiled: openvino.CompiledModel, spec: dict[str, Any], weights: Any = None) -> None:
        self.spec = spec
        self._weights = weights  # OpenVINO (2026.4.1) does not hold what it was given, and reads it all the same
        self._compiled = compiled
        self._outputs = [(tensor["name"], compiled.output(tensor["name"])) for tensor in spec["outputs"]]
        self._own = threading.local()

    @classmethod
    def load(cls, folder: Path, threads: int) -> Predictor:
        """Compile `folder` for `threads` threads."""
        return cls(_compiled(read_model(Path(folder)), threads), load_spec(Path(folder)))

    @classmethod
    def load_shared(cls, folder: Path, threads: int) -> Predictor:
        """As `load`, for one of several processes: they have one copy of the weights' file, which is mapped.

        What OpenVINO makes of the weights for its kernels, each process has alone, and weights that were few enough to
        be compressed. A file that is cut off while it is mapped ends the process.
        """
        path = Path(folder) / "model.bin"
        if (Path(folder) / "model.bin.gz").is_file() or not path.stat().st_size:
            return cls.load(folder, threads)
        weights = np.memmap(path, np.uint8, "c")  # OpenVINO takes no memory that cannot be written
        model = read_model(Path(folder), openvino.Tensor(weights, shared_memory=True))
        return cls(_compiled(model, threads), load_spec(Path(folder)), weights)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...); the arrays are copies, safe to keep.

        Raises:
            InputError: the inputs do not fit the specification.
        """
        ready = check_inputs(self.spec, inputs)
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        values = request.infer(ready, share_inputs=True, share_outputs=False)
        return {name: np.asarray(values[port]) for name, port in self._outputs}


def _compiled(model: openvino.Model, threads: int) -> openvino.CompiledModel:
    return openvino.Core().compile_model(model, "CPU", {**_CONFIG, "INFERENCE_NUM_THREADS": threads})
