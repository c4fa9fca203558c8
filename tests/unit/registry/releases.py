"""A small release folder and a keyring, for tests of the registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.registry.package import Facts, Golden, pack

SPEC = {"inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3]}], "outputs": []}


def facts(**changes: Any) -> Facts:
    values: dict[str, Any] = {
        "name": "digits",
        "candidate": "0123456789abcdef",
        "label": "int8",
        "target": "onnxruntime-cpu",
        "precision": "int8",
        "threads": 1,
        "classes": 2,
        "labels": None,
        "gate": {"answer": "pass"},
        "accuracy": {"value": 0.9},
    }
    return Facts(**{**values, **changes})


def golden() -> Golden:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    return Golden({"input": rows}, {"probabilities": np.full((4, 2), 0.5, np.float32)})


def packed(folder: Path, **changes: Any) -> Path:
    """A release folder `folder` with a model file and a weights file; not signed."""
    converted = folder.parent / f"{folder.name}-converted"
    (converted / "sub").mkdir(parents=True)
    (converted / "model.onnx").write_bytes(b"\x08\x0bmodel")
    (converted / "sub" / "weights.bin").write_bytes(np.linspace(-1, 1, 50, dtype=np.float32).tobytes())
    (converted / "spec.json").write_text(json.dumps(SPEC))
    pack(converted, folder, facts(**changes), golden(), profile=b"{}")
    return folder
