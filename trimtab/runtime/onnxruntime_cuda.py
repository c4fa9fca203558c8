"""ONNX Runtime on an NVIDIA GPU: `model.onnx` of a converted folder, on the CUDA execution provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

# bundle: drop
from trimtab.runtime.onnxruntime_session import CPU_PROVIDER, Provider, SessionPredictor, missing_provider

# bundle: keep

_CUDA = "CUDAExecutionProvider"


class Predictor(SessionPredictor):
    """A model on CUDA; the CPU computes what CUDA has no kernel for, such as arithmetic on shapes."""

    # TF32 is on by default: products would be rounded to 10 bits, other numbers than were verified.
    providers: ClassVar[Sequence[Provider]] = ((_CUDA, {"use_tf32": "0"}), (CPU_PROVIDER, {}))


def unavailable() -> str:
    """Why this machine cannot run it, "" if it can."""
    return missing_provider(_CUDA)
