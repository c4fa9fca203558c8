"""What can be verified: anything that answers named inputs with named arrays, the first of which decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Array = np.ndarray


class Predictor(Protocol):
    """A loaded model: `spec` names its inputs and outputs, `predict` answers a batch."""

    @property
    def spec(self) -> dict[str, Any]:
        """{"inputs": [{"name", "dtype", "shape"}], "outputs": [{"name": "probabilities", ...}, ...]}."""

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays in, {"probabilities": float32 (batch, classes)} or {"prediction": float32 (batch, k)} out.

        Further outputs follow it, in the order of `spec`.
        """


def answered(predictor: Predictor, inputs: Mapping[str, Array]) -> Array:
    """The output that decides, float32 (batch, k), whatever that is called."""
    return deciding(predictor.predict(inputs))


def deciding(answers: Mapping[str, Array]) -> Array:
    """The output that decides, of what a predictor answered."""
    return next(iter(answers.values()))


def all_answers(predictor: Predictor, inputs: Mapping[str, Array], batch: int = 256) -> dict[str, Array]:
    """Every output (n, ...) of all rows, `batch` rows a call; all of it is held, so give rows by the thousand."""
    rows = len(next(iter(inputs.values())))
    parts = [
        predictor.predict({name: values[start : start + batch] for name, values in inputs.items()})
        for start in range(0, rows, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def probabilities(predictor: Predictor, inputs: Mapping[str, Array], batch: int = 256) -> Array:
    """Probabilities (n, classes), or numbers (n, k), of all rows, `batch` rows a call so that memory stays bounded."""
    rows = len(next(iter(inputs.values())))
    parts = [
        answered(predictor, {name: values[start : start + batch] for name, values in inputs.items()})
        for start in range(0, rows, batch)
    ]
    return np.concatenate(parts)
