"""One request on the challenger, compared with what the champion answered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trimtab.journal.outcomes import Outcome
from trimtab.serving.failures import kind_of
from trimtab.serving.release import Loaded
from trimtab.serving.routing import place

Array = np.ndarray
SHORTEST_S = 1e-9  # what a clock cannot tell from nothing


@dataclass(frozen=True)
class Copy:
    """A request that the champion answered.

    Attributes:
        inputs: name → (n, ...), as the model took them. output: (n, classes) probabilities or (n, k) numbers.
        predict_s: seconds in the champion's model.
    """

    request_id: str
    champion: Loaded
    inputs: Mapping[str, Array]
    output: Array
    predict_s: float

    @property
    def size(self) -> int:
        """Bytes it holds."""
        return self.output.nbytes + sum(values.nbytes for values in self.inputs.values())


def compare(copy: Copy, challenger: Loaded, tolerance: float) -> Outcome:
    """Run the copy on the challenger and compare.

    Both are timed here, one after the other on the same thread, because the champion's own answer was timed under other
    conditions; which goes first depends on the request. A champion whose runtime takes one call at a time is not called
    again: for it the time of its answer counts.

    Args:
        tolerance: of a regression, see `agreeing`.
    """
    champion_first = place(copy.request_id, "order") < 50
    before = _champion_s(copy) if champion_first else 0.0
    begin = time.perf_counter()
    try:
        outputs = challenger.predictor.predict(copy.inputs)
        seconds = time.perf_counter() - begin
        answer = outputs[challenger.output]
        error = _wrong(answer, len(copy.output))
    except Exception as raised:  # a runtime raises whatever it likes
        return _outcome(copy, challenger, error=kind_of(raised))
    if error is not None:
        return _outcome(copy, challenger, error=error)
    champion_s = before if champion_first else _champion_s(copy)
    same_shape = answer.shape == copy.output.shape
    return _outcome(
        copy,
        challenger,
        agreed=agreeing(copy.output, answer, tolerance if challenger.regression else None),
        difference=float(np.abs(answer.astype(np.float64) - copy.output).max()) if same_shape else None,
        ratio=max(seconds, SHORTEST_S) / max(champion_s, SHORTEST_S),
    )


def agreeing(champion: Array, challenger: Array, tolerance: float | None) -> int:
    """Rows in which both decide the same.

    Args:
        champion, challenger: finite (n, classes), (n, classes'): the class with the largest probability decides.
        tolerance: of a regression, (n, k): rows agree where no number is further apart than this share of the larger of
            the two magnitudes. None for classes.
    """
    if tolerance is None:
        return int((champion.argmax(axis=1) == challenger.argmax(axis=1)).sum())
    if champion.shape != challenger.shape:
        return 0
    wide, other = champion.astype(np.float64), challenger.astype(np.float64)
    close = np.abs(wide - other) <= tolerance * np.maximum(np.abs(wide), np.abs(other))
    return int(close.all(axis=1).sum())


def _wrong(answer: Array, rows: int) -> str | None:
    """Why an answer counts as an error, as the service names it for the champion."""
    if answer.ndim != 2 or len(answer) != rows:
        return "WrongShape"
    return None if np.isfinite(answer).all() else "NotFinite"


def _champion_s(copy: Copy) -> float:
    predictor = copy.champion.predictor
    if not predictor.reentrant:
        return copy.predict_s
    begin = time.perf_counter()
    predictor.predict(copy.inputs)
    return time.perf_counter() - begin


def _outcome(
    copy: Copy,
    challenger: Loaded,
    *,
    error: str | None = None,
    agreed: int = 0,
    difference: float | None = None,
    ratio: float | None = None,
) -> Outcome:
    return Outcome(
        kind="shadow",
        champion=copy.champion.version,
        challenger=challenger.version,
        request_id=copy.request_id,
        time_ns=time.time_ns(),
        rows=len(copy.output),
        error=error,
        agreed=agreed,
        difference=difference,
        ratio=ratio,
    )
