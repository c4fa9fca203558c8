"""A small world for the watch: a release with a profile, and journal windows drawn like it or not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from trimtab.monitoring import profile as profiles
from trimtab.monitoring.frames import Frames
from trimtab.monitoring.homogeneity import NAME, homogeneity_p
from trimtab.recipe.schema import Monitoring

Array = np.ndarray
MONITORING = Monitoring()
CLASSES = 4


@dataclass
class FakeWindow:
    """The attributes of a journal window."""

    has_inputs: Array = field(default_factory=lambda: np.empty(0, bool), kw_only=True)
    label_time_ns: Array = field(default_factory=lambda: np.empty(0, np.int64), kw_only=True)
    labels_as_of_ns: int = field(default=0, kw_only=True)
    request_id: Array
    row: Array
    time_ns: Array
    version: Array
    predicted: Array
    confidence: Array
    output: Array
    inputs: dict[str, Array] | None
    label: Array
    status: Array
    lo: int = 0
    hi: int = 0
    labelled: int = 0
    duplicates: int = 0
    unknown_labels: int = 0

    def but(self, **changes: Any) -> FakeWindow:
        return replace(self, **changes)


def probabilities(rng: np.random.Generator, n: int) -> Array:
    return rng.dirichlet(np.full(CLASSES, 0.3), n)


def labels_for(rng: np.random.Generator, predicted: Array, accuracy: float) -> Array:
    right = rng.random(len(predicted)) < accuracy
    return np.where(right, predicted, (predicted + 1) % CLASSES).astype(np.int64)


def images(rng: np.random.Generator, n: int, contrast: float = 1.0) -> Array:
    return (0.5 + contrast * (rng.random((n, 1, 6, 6)) - 0.5)).astype(np.float32)


def release(seed: int = 0, n: int = 300, accuracy: float = 0.95) -> tuple[profiles.Profile, dict[str, Array]]:
    rng = np.random.default_rng(seed)
    output = probabilities(rng, n)
    return profiles.build({"input": images(rng, n)}, output, labels_for(rng, output.argmax(axis=1), accuracy))


def window(
    seed: int = 1, n: int = 200, accuracy: float = 0.95, contrast: float = 1.0, version: str = "3"
) -> FakeWindow:
    rng = np.random.default_rng(seed)
    output = probabilities(rng, n)
    predicted = output.argmax(axis=1)
    return FakeWindow(
        request_id=np.array([f"r{i}" for i in range(n)]),
        row=np.zeros(n, np.int64),
        time_ns=np.arange(n),
        version=np.array([version] * n),
        predicted=predicted,
        confidence=output.max(axis=1),
        output=output,
        inputs={"input": images(rng, n, contrast)},
        label=labels_for(rng, predicted, accuracy),
        status=np.full(n, 200),
        lo=1000,
        hi=1000 + n,
        labelled=n,
    )


def tabular(values: Array) -> tuple[profiles.Profile, dict[str, Array]]:
    """A release whose only varying columns are the features (n, d): its answers are the same for every row."""
    n = len(values)
    output = np.tile([0.9, 0.1], (n, 1))
    return profiles.build({"input": values}, output, np.zeros(n, np.int64))


def own_p_values(pair: Frames) -> dict[str, float]:
    """The same tests straight from scipy: quick enough for thousands of windows."""
    result = {}
    for name, method in pair.methods.items():
        then, now = pair.reference[name].dropna(), pair.current[name].dropna()
        if method == NAME:
            result[name] = homogeneity_p(then.to_numpy(str), now.to_numpy(str), pair.threshold)
        else:
            result[name] = float(ks_2samp(then, now).pvalue)
    return result
