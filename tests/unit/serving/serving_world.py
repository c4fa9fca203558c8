"""A service with a small model made in the test: what the tests of protocols ask."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from trimtab.journal.wal import Journal
from trimtab.serving.app import build
from trimtab.serving.keeping import Keeping
from trimtab.serving.limits import Limits
from trimtab.serving.release import Loaded
from trimtab.serving.service import Service

IMAGES = {"mode": "RGB", "scale": 1.0, "resize": False}


def spec(**inputs: tuple[str, list[Any]]) -> dict[str, Any]:
    """A specification: input name = (dtype, shape of a row); one output (batch, 3)."""
    return {
        "inputs": [
            {"name": name, "dtype": dtype, "shape": ["batch", *shape]} for name, (dtype, shape) in inputs.items()
        ],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}],
    }


VECTOR = spec(input=("float32", [3]))
PICTURE = spec(input=("float32", [3, 4, 5]))
TWO = spec(a=("float32", [2]), ids=("int64", []), flags=("bool", [2]))


class Sums:
    """Answers (s, 1, 2) for each row, s the sum over all inputs of the row: what was read can be told from it."""

    reentrant = True

    def __init__(self, of: dict[str, Any]) -> None:
        self.spec = of

    def predict(self, inputs: Any) -> dict[str, np.ndarray]:
        total = sum(values.reshape(len(values), -1).sum(axis=1, dtype=np.float64) for values in inputs.values())
        return {"probabilities": np.stack([total, np.ones_like(total), np.full_like(total, 2)], 1).astype(np.float32)}


SYNCED = {"keeping": Keeping(acknowledge="synced")}  # what was answered is there to be read at once


def loaded(of: dict[str, Any] = VECTOR, *, images: dict[str, Any] | None = None, **limits: Any) -> Loaded:
    facts = {
        "candidate": "abc", "target": "onnxruntime-cpu", "precision": "fp32", "classes": 3,
        "serving": {"images": images},
    }  # fmt: skip
    rows = {tensor["name"]: _row(tensor) for tensor in of["inputs"]}
    return Loaded("tiny", "7", Sums(of), Limits(**{**SYNCED, **limits}), facts, time.time_ns(), rows)


def _row(tensor: dict[str, Any]) -> np.ndarray:
    return np.ones([1, *(size if isinstance(size, int) else 2 for size in tensor["shape"][1:])], tensor["dtype"])


@contextmanager
def asked(folder: Path, release: Loaded | None) -> Iterator[tuple[TestClient, Service]]:
    """A client of a service with a journal in `folder`; without a release nothing serves."""
    (folder / "reports").mkdir(exist_ok=True)
    service = Service("tiny", folder / "reports", Journal(folder / "journal"))
    if release is not None:
        service.swap(release)
    with TestClient(build(service), raise_server_exceptions=False) as client:
        yield client, service
