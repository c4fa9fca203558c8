"""From stated probabilities to ones that can be counted on: a monotone map, fitted at release on held-out rows.

Two forms, and the rows themselves choose (five-fold cross-validation by Brier score; the second one only where it is
better by more than one standard error):

- temperature (Guo et al. 2017): p^(1/T), normalised; one number, which a few hundred rows can bear. A weak prior keeps
  T near 1 where a model that was never wrong on them would draw it to 0.
- isotonic, each class against the rest (Zadrozny and Elkan 2002): blocks of pooled adjacent violators, straight lines
  between their centres, rows normalised. For up to 50 classes.

How far the map itself is uncertain is kept with it: the spread of ln T (Laplace's approximation), and the rows behind
each block, from which its level can be drawn. So an estimate made with it can say how sure it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from trimtab.candidate import Interval
from trimtab.errors import DataError
from trimtab.monitoring.probabilities import sample

Array = np.ndarray
FOLDS = 5
ISOTONIC_CLASSES = 50
LEAST_ROWS, MOST_NUMBERS = 1000, 5_000_000  # of more probabilities, a sample of rows is fitted on
LEAST_SHARE = 1e-3
LEAST = 1e-12  # probabilities below are taken for this
PRIOR_SPREAD = 0.5  # of ln T
RANGE = (np.log(0.05), np.log(20.0))
SEED = 0
STEP = 1e-2  # of ln T, for the curvature
Z = 1.959963984540054


@dataclass(frozen=True)
class Blocks:
    """One class: mean stated probability of each block of held-out rows, how many rows, how many of the class."""

    stated: tuple[float, ...]
    rows: tuple[int, ...]
    hits: tuple[int, ...]


@dataclass(frozen=True)
class CalibrationMap:
    """A fitted map.

    Attributes:
        kind: which of the two. n: held-out rows it was fitted on.
        log_temperature, log_spread: of "temperature", ln T and its standard deviation.
        blocks: of "isotonic", one entry a class.
        error: accuracy that the map estimates less the true one, on held-out rows it was not fitted on; 95 %.
    """

    kind: Literal["temperature", "isotonic"]
    n: int
    log_temperature: float
    log_spread: float
    blocks: tuple[Blocks, ...]
    error: Interval

    def apply(self, output: Array) -> Array:
        """Calibrated probabilities, float64 (n, classes); rows sum to 1.

        Args:
            output: float (n, classes), stated probabilities, finite.
        """
        if self.kind == "temperature":
            return _tempered(output, self.log_temperature)
        return _by_blocks(output, self.blocks, [_level(block) for block in self.blocks])

    def drawn(self, output: Array, random: np.random.Generator) -> Array:
        """The same by one map that the held-out rows could as well have given."""
        if self.kind == "temperature":
            return _tempered(output, self.log_temperature + self.log_spread * random.standard_normal())
        return _by_blocks(output, self.blocks, [_drawn_level(block, random) for block in self.blocks])

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CalibrationMap:
        """The inverse of `to_json`."""
        blocks = tuple(Blocks(*(tuple(one[key]) for key in ("stated", "rows", "hits"))) for one in value["blocks"])
        return cls(**{**value, "blocks": blocks, "error": Interval(**value["error"])})


Fit = Callable[[Array, Array], CalibrationMap]
_NOT_YET = Interval(0.0, 0.0, 0.0, 0)


def fit(output: Array, label: Array) -> CalibrationMap:
    """Fit both forms, choose one, and say how far off it is on rows it was not fitted on.

    Args:
        output: float (n, classes), probabilities of rows the model was not trained on. label: int (n,), their classes.

    Raises:
        DataError: fewer rows than folds, or probabilities that are not finite.
    """
    some = sample(len(output), max(LEAST_ROWS, MOST_NUMBERS // output.shape[1]))
    stated, label = np.asarray(output[some], np.float64), np.asarray(label[some], np.int64)
    if len(stated) < FOLDS or not np.isfinite(stated).all():
        raise DataError(
            f"{len(stated)} held-out rows, or probabilities that are not finite",
            where="calibration map",
            fix=f"give {FOLDS} rows or more with finite answers",
        )
    fitted: list[Fit] = [_temperature, _isotonic] if stated.shape[1] <= ISOTONIC_CLASSES else [_temperature]
    crossed = [_crossed(one, stated, label) for one in fitted]
    scores = [np.square(given - np.eye(stated.shape[1])[label]).sum(axis=1) for given in crossed]
    chosen = 0
    if len(fitted) > 1:
        better = scores[0] - scores[1]
        chosen = int(better.mean() > better.std(ddof=1) / len(better) ** 0.5)
    return replace(fitted[chosen](stated, label), error=_error(crossed[chosen], stated, label))


def _error(crossed: Array, stated: Array, label: Array) -> Interval:
    predicted, n = stated.argmax(axis=1), len(label)
    off = crossed[np.arange(n), predicted] - (predicted == label)
    mean, away = float(off.mean()), Z * float(off.std(ddof=1)) / n**0.5
    return Interval(mean, mean - away, mean + away, n)


def _crossed(fitted: Fit, stated: Array, label: Array) -> Array:
    """Calibrated probabilities of each row by a map fitted on the other folds."""
    fold = np.random.default_rng(SEED).permutation(len(label)) % FOLDS
    given = np.empty_like(stated)
    for part in range(FOLDS):
        held = fold == part
        given[held] = fitted(stated[~held], label[~held]).apply(stated[held])
    return given


def _temperature(stated: Array, label: Array) -> CalibrationMap:
    from scipy.optimize import minimize_scalar

    def cost(log_temperature: float) -> float:
        """Negative log likelihood, and the prior's."""
        right = _tempered(stated, log_temperature)[np.arange(len(label)), label]
        return float(-np.log(np.maximum(right, LEAST)).sum() + 0.5 * (log_temperature / PRIOR_SPREAD) ** 2)

    found = float(minimize_scalar(cost, bounds=RANGE, method="bounded", options={"xatol": 1e-4}).x)
    curvature = (cost(found + STEP) - 2 * cost(found) + cost(found - STEP)) / STEP**2
    spread = float(min(1 / np.sqrt(max(curvature, 1e-12)), PRIOR_SPREAD))
    return CalibrationMap("temperature", len(label), found, spread, (), _NOT_YET)


def _isotonic(stated: Array, label: Array) -> CalibrationMap:
    classes = stated.shape[1]
    blocks = tuple(_pooled(stated[:, index], label == index) for index in range(classes))
    return CalibrationMap("isotonic", len(label), 0.0, 0.0, blocks, _NOT_YET)


def _pooled(stated: Array, positive: Array) -> Blocks:
    """Blocks of one class; equal probabilities are one point, so they share a block."""
    from scipy.optimize import isotonic_regression

    points, place, rows = np.unique(stated, return_inverse=True, return_counts=True)
    hits = np.bincount(place, positive)
    starts = isotonic_regression(hits / rows, weights=rows).blocks[:-1]
    in_block, hit = np.add.reduceat(rows, starts), np.add.reduceat(hits, starts)
    centre = np.add.reduceat(points * rows, starts) / in_block
    return Blocks(
        tuple(float(value) for value in centre), tuple(int(value) for value in in_block), tuple(int(h) for h in hit)
    )


def _level(block: Blocks) -> Array:
    return np.asarray(np.array(block.hits) / np.array(block.rows))


def _drawn_level(block: Blocks, random: np.random.Generator) -> Array:
    hits, rows = np.array(block.hits), np.array(block.rows)
    # The prior is one row with the class's own share in it: half a row for each of many classes would add up.
    share = np.clip(hits.sum() / rows.sum(), LEAST_SHARE, 1 - LEAST_SHARE)
    level = random.beta(hits + share, rows - hits + 1 - share)
    # Between the two monotone bounds of what was drawn, which is monotone too.
    rising = np.maximum.accumulate(level)
    return np.asarray((rising + np.minimum.accumulate(level[::-1])[::-1]) / 2)


def _tempered(output: Array, log_temperature: float) -> Array:
    logits = np.log(np.maximum(np.asarray(output, np.float64), LEAST)) * np.exp(-log_temperature)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _by_blocks(output: Array, blocks: tuple[Blocks, ...], levels: list[Array]) -> Array:
    stated = np.asarray(output, np.float64)
    each = np.column_stack(
        [
            np.interp(stated[:, k], block.stated, level)
            for k, (block, level) in enumerate(zip(blocks, levels, strict=True))
        ]
    )
    total = each.sum(axis=1, keepdims=True)
    sums = np.where(total > 0, total, 1.0)
    return np.asarray(np.where(total > 0, each / sums, stated))
