"""Ranges of activations that a training left: a file beside a candidate's weights, and how the quantizer gets them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnxruntime.quantization.calibrate import TensorData, load_tensors_data, save_tensors_data

from trimtab.errors import ModelError

RANGES_FILE = "ranges.json"
Ranges = Mapping[str, tuple[float, float]]


def write_learned(ranges: Ranges, folder: Path) -> None:
    """Write name of a tensor of the float ONNX graph → (low, high) into a candidate's folder."""
    (folder / RANGES_FILE).write_text(json.dumps({name: list(ends) for name, ends in sorted(ranges.items())}))


def learned_of(folder: Path) -> Ranges:
    """What `write_learned` wrote; empty for a candidate that was not trained for INT8.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / RANGES_FILE
    if not path.is_file():
        return {}
    try:
        return {name: (float(low), float(high)) for name, (low, high) in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), fix="make the candidate again") from None


def put_into(cache: Path, learned: Ranges) -> None:
    """Replace calibrated ranges by learned ones, in the cache that ONNX Runtime's quantizer reads.

    Raises:
        ModelError: a tensor is not among the calibrated ones: the ranges are of another graph.
    """
    found = load_tensors_data(cache)
    known = dict(found.items())
    strange = sorted(set(learned) - set(known))
    if strange:
        raise ModelError(
            f"{len(strange)} of {len(learned)} learned ranges are of tensors that the graph does not have, "
            f"first {strange[0]}",
            where=str(RANGES_FILE),
            fix="make the candidate again: the exporter names tensors otherwise than when it was trained",
        )
    for name, (low, high) in learned.items():
        old = {key: value for key, value in known[name].to_dict().items() if key != "CLS"}
        ends = {key: np.full_like(old[key], end) for key, end in (("lowest", low), ("highest", high))}
        found[name] = TensorData(**{**old, **ends})
    save_tensors_data(found, cache)
