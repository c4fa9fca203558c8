"""ONNX Runtime on the CPU: `model.onnx` (and its side-files, if any) of a converted folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

# bundle: drop
from trimtab.runtime.onnxruntime_session import SessionPredictor, new_session

# bundle: keep
if TYPE_CHECKING:
    import onnxruntime


class Predictor(SessionPredictor):
    """A model on ONNX Runtime's CPU execution provider."""


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session of an ONNX file on the CPU: `threads` inside an operator, operators one after the other."""
    return new_session(path, threads, Predictor.providers)
