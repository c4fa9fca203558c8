"""A release of a made-up model and Parquet files for it, for tests of batch scoring."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trimtab.scoring_batch.answering import Answering, Here
from trimtab.scoring_batch.batch import Summary, open_batch
from trimtab.scoring_batch.order import Order
from trimtab.serving.limits import Limits
from trimtab.serving.release import Loaded

Array = np.ndarray
SPEC = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3]}],
    "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}],
}


class Shares:
    """Answers each row's share of its sum; raises where a value is 13, and has no finite answer to a sum of 0."""

    spec, reentrant = SPEC, True

    def __init__(self) -> None:
        self.calls: list[int] = []

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = inputs["input"]
        self.calls.append(len(rows))
        if (rows == 13).any():
            raise RuntimeError("unlucky")
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"probabilities": rows / rows.sum(axis=1, keepdims=True)}


def loaded(version: str = "3", predictor: Any = None, **facts: Any) -> Loaded:
    known = {
        "name": "tiny",
        "candidate": "abc",
        "target": "onnxruntime-cpu",
        "precision": "fp32",
        "classes": 3,
        **facts,
    }
    return Loaded("tiny", version, predictor or Shares(), Limits(), known, time.time_ns())


def rows_of(count: int, first: int = 0) -> Array:
    """Rows (count, 3) that are all different and all sound."""
    return np.stack([np.arange(first, first + count) % 7 + k + 20 for k in range(3)], axis=1).astype(np.float32)


def write(path: Path, values: Array, *, first: int = 0, group: int = 10, **columns: Any) -> Path:
    """Columns `id`, `a`, `b`, `c` in row groups of `group` rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {"id": np.arange(first, first + len(values)), **{name: values[:, k] for k, name in enumerate("abc")}}
    pq.write_table(pa.table({**named, **columns}), path, row_group_size=group)
    return path


def release(folder: Path) -> Path:
    """A release folder as far as its key is read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"release.json": "0" * 64}))
    return folder


def order(inputs: Path, output: Path, **options: Any) -> Order:
    return Order("tiny", 3, inputs, output, **{"keys": ("id",), "batch_rows": 4, **options})


def run(
    asked: Order,
    folder: Path,
    model: Loaded | None = None,
    answering: Callable[[Loaded], Answering] = Here,
    *,
    restart: bool = False,
) -> Summary:
    """A whole batch."""
    model = model or loaded()
    with open_batch(asked, model, release(folder), restart=restart) as batch:
        batch.score(answering(model), lambda done, total, what: None)
        return batch.publish()


def read(path: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return found
