"""Who pays: a candidate against the original on each class and on each slice that the recipe names.

The mean hides who pays for it. An example to check by hand: of 1,000 rows in ten classes of 100 the candidate loses 10,
which is one point; if all ten are of one class, that class has lost ten points.

Many slices make chance finds likely: of 20 intervals at 95 % one misses on average. Each is therefore computed at
1 - (1 - confidence) / number of slices (Bonferroni 1936), so that all of them hold at once with at least `confidence`,
also where slices overlap.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from trimtab.candidate import Json
from trimtab.errors import DataError
from trimtab.verify.accuracy import Paired, paired
from trimtab.verify.numbers import PairedNumbers, paired_from_json

Array = np.ndarray
Kind = Literal["class", "recipe"]
COLUMNS = ("slice", "kind", "rows", "before", "after", "difference", "low", "high", "confidence", "lost", "gained")


@dataclass(frozen=True)
class Slice:
    """Some rows of a split, named, with both models on them. `kind`: a class, or a slice of the recipe's."""

    name: str
    kind: Kind
    paired: Paired | PairedNumbers

    def __str__(self) -> str:
        """E.g. '"cat": 98.0 % → 91.0 %, −7.00 points (99.5 % interval −11.1 to …; 9 lost, 2 gained of 100 rows)'."""
        one, difference = self.paired, self.paired.difference
        return (
            f'"{self.name}": {one.show(one.original.value)} → {one.show(one.candidate.value)}, '
            f"{one.amount(difference.value)} ({100 * difference.confidence:.5g} % interval "
            f"{one.bare(difference.low)} to {one.bare(difference.high)}; {one.counts})"
        )


@dataclass(frozen=True)
class Slices:
    """Every slice of one split.

    Attributes:
        rows: of the whole split. confidence: with which all intervals hold together; each has its own, higher one.
        measured: worst first, at least one.
        unmeasured: classes without a row in the split, of which nothing is known.
    """

    rows: int
    confidence: float
    measured: tuple[Slice, ...]
    unmeasured: tuple[str, ...] = ()

    @property
    def worst(self) -> Slice:
        """The slice with the largest drop as estimated; chance is not considered."""
        return self.measured[0]

    @property
    def pays_most(self) -> Slice | None:
        """The largest drop among the slices whose whole interval is below 0; None where chance explains them all."""
        return next((one for one in self.measured if one.paired.difference.high < 0), None)

    def sentence(self) -> str:
        """Who pays most, with figures; or that nobody was shown to pay."""
        if self.pays_most is not None:
            return f"of {len(self.measured)} slices the one that pays most is {self.pays_most}"
        return f"of {len(self.measured)} slices none is shown to pay; the lowest is {self.worst}"

    def to_csv(self) -> str:
        """One line a slice, worst first; shares of 0 … 1."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in self.measured:
            before, after, gap = one.paired.original, one.paired.candidate, one.paired.difference
            figures = (gap.n, before.value, after.value, gap.value, gap.low, gap.high, gap.confidence)
            writer.writerow([one.name, one.kind, *figures, one.paired.lost, one.paired.gained])
        return stream.getvalue()

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "measured": [asdict(one) for one in self.measured], "unmeasured": list(self.unmeasured)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Slices:
        """The inverse of `to_json`."""
        measured = tuple(Slice(one["name"], one["kind"], paired_from_json(one["paired"])) for one in value["measured"])
        return cls(value["rows"], value["confidence"], measured, tuple(value["unmeasured"]))


def corrected(confidence: float, slices: int) -> float:
    """Confidence of each interval, so that `slices` of them hold together with `confidence` (Bonferroni)."""
    return 1 - (1 - confidence) / slices


def together(slices: Slices) -> float:
    """Confidence with which the intervals hold together, from what each of them was computed with."""
    lowest = min(one.paired.difference.confidence for one in slices.measured)
    return 1 - (1 - lowest) * len(slices.measured)


def compare_slices(
    original: Array,
    candidate: Array,
    labels: Array,
    names: Sequence[str],
    own: Mapping[str, Array],
    confidence: float,
) -> Slices:
    """Both models on every class and on every slice of the recipe's.

    Args:
        original, candidate: bool (n,), whether each row of the split was answered right.
        labels: int (n,), the true class of each row. names: of the classes, by index.
        own: name → bool (n,); slices may overlap each other and the classes.
        confidence: with which all intervals are to hold together.

    Raises:
        DataError: arrays of different length, a slice without a row, or no row at all.
    """
    masks, unmeasured = _masks(labels, names, own)
    if strange := [name for name, _, mask in masks if mask.shape != original.shape or not mask.any()]:
        raise DataError(f"{strange} do not select from {len(original)} rows", where="slices", fix="one bool a row")
    if not masks:
        raise DataError("there is no row to compare", where="slices", fix="give at least one row")

    def pair(mask: Array, each: float) -> Paired:
        return paired(original[mask], candidate[mask], each)

    return _measured(masks, pair, len(original), confidence, unmeasured)


def compare_own_slices(
    own: Mapping[str, Array], pair: Callable[[Array, float], PairedNumbers], rows: int, confidence: float
) -> Slices | None:
    """Two regressions on every slice of the recipe's; None where it has none.

    Args:
        own: name → bool (rows,). pair: (mask, confidence) → both on the rows of the mask.
        confidence: with which all intervals are to hold together.

    Raises:
        DataError: a slice has too few rows for an interval.
    """
    masks: list[tuple[str, Kind, Array]] = [(name, "recipe", np.asarray(mask, bool)) for name, mask in own.items()]
    return _measured(masks, pair, rows, confidence) if masks else None


def _measured(
    masks: Sequence[tuple[str, Kind, Array]],
    pair: Callable[[Array, float], Paired | PairedNumbers],
    rows: int,
    confidence: float,
    unmeasured: tuple[str, ...] = (),
) -> Slices:
    each = corrected(confidence, len(masks))
    measured = [Slice(name, kind, pair(mask, each)) for name, kind, mask in masks]
    measured.sort(key=lambda one: (one.paired.difference.value, one.paired.difference.low, one.name))
    return Slices(rows, confidence, tuple(measured), unmeasured)


def largest_drop(
    original: Array, candidate: Array, labels: Array, names: Sequence[str], own: Mapping[str, Array]
) -> tuple[str, float]:
    """The slice that loses most, and what it loses, as estimated: no interval, so that many candidates can be ordered.

    Args: as of `compare_slices`. There has to be a row at least.
    """
    masks, _ = _masks(labels, names, own)
    drops = {name: float(original[mask].mean() - candidate[mask].mean()) for name, _, mask in masks}
    return max(drops.items(), key=lambda item: item[1])


def _masks(
    labels: Array, names: Sequence[str], own: Mapping[str, Array]
) -> tuple[list[tuple[str, Kind, Array]], tuple[str, ...]]:
    """Name, kind and rows of each class that has some, then of each slice of the recipe's; and the classes without."""
    masks: list[tuple[str, Kind, Array]] = [
        (name, "class", np.asarray(labels) == index) for index, name in enumerate(names)
    ]
    unmeasured = tuple(name for name, _, mask in masks if not mask.any())
    masks = [one for one in masks if one[2].any()]
    return [*masks, *((name, "recipe", np.asarray(mask, bool)) for name, mask in own.items())], unmeasured
