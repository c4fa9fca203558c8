"""ONNX Runtime on an NVIDIA GPU: `model.onnx` of a converted folder, on the TensorRT execution provider.

The engine is built when the model is loaded, which takes seconds to minutes, and is not kept on disk: it fits one
version of TensorRT and one kind of GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

# bundle: drop
from trimtab.runtime.onnxruntime_session import CPU_PROVIDER, Provider, SessionPredictor, missing_provider

# bundle: keep

_TENSORRT, _CUDA = "TensorrtExecutionProvider", "CUDAExecutionProvider"


class Predictor(SessionPredictor):
    """A model on TensorRT; CUDA and then the CPU compute what it does not take."""

    providers: ClassVar[Sequence[Provider]] = (
        (_TENSORRT, {"trt_fp16_enable": "0", "trt_engine_cache_enable": "0"}),
        (_CUDA, {"use_tf32": "0"}),
        (CPU_PROVIDER, {}),
    )


def unavailable() -> str:
    """Why this machine cannot run it, "" if it can."""
    return missing_provider(_TENSORRT)
