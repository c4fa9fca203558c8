"""A latency model: what a shape will take, from what others took, so that hopeless shapes need not be measured.

Latency of a feed-forward network on one runtime is close to a sum of parts that grow with its multiply-accumulates,
with the activations that are written and read, with its weights, and with its number of layers. The coefficients are
found by non-negative least squares (Lawson, Hanson 1974) on relative latencies; the error is that of predicting each
shape from the others (leave one out), so it is the error on shapes that were not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

FEATURES = ("macs", "activations", "parameters", "layers")
LEAST = 8  # shapes below which nothing is predicted
Features = Mapping[str, float]


@dataclass(frozen=True)
class LatencyModel:
    """Predicts latency relative to the uncut original.

    Attributes:
        coefficients: of a constant and of each feature, the features as shares of the original's.
        error: relative error that 90 % of the shapes stayed within when predicted from the others.
        median_error: the same for half of them. n: shapes it was fitted to.
    """

    coefficients: tuple[float, ...]
    error: float
    median_error: float
    n: int

    def predict(self, features: Features) -> float:
        """Latency over that of the original, > 0."""
        return float(max(_row(features) @ np.asarray(self.coefficients), 1e-6))


def fit_latency(features: Sequence[Features], latencies: Sequence[float]) -> LatencyModel | None:
    """A model of what was measured; None while there are fewer than eight shapes.

    Args:
        features: a mapping a shape, each feature as a share of the original's.
        latencies: over the original's, > 0.
    """
    n = len(latencies)
    if n < LEAST:
        return None
    rows, values = np.stack([_row(one) for one in features]), np.asarray(latencies, dtype=np.float64)
    errors = []
    for left_out in range(n):
        others = np.arange(n) != left_out
        guess = float(rows[left_out] @ _solve(rows[others], values[others]))
        errors.append(abs(guess - values[left_out]) / values[left_out])
    coefficients = tuple(float(value) for value in _solve(rows, values))
    return LatencyModel(coefficients, float(np.quantile(errors, 0.9)), float(np.median(errors)), n)


def _row(features: Features) -> np.ndarray:
    return np.array([1.0, *(features[name] for name in FEATURES)])


def _solve(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least squares of relative errors: each equation is divided by its latency."""
    found: np.ndarray = nnls(rows / values[:, None], np.ones(len(values)))[0]
    return found
