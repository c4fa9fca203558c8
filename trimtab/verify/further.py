"""Outputs kept beside the one that decides: how far a candidate's are from its torch module's, and the original's.

Two figures an output. *Largest*: the largest absolute difference from the module it was converted from, as a share of
the largest absolute value that module gives; rounding of floats is relative, so FP32 is held to it. *Mean*: the root
mean square of the difference over that of the expected values, which one large value does not hide. Worked example: 2.0
and -4.0 become 2.1 and -4.0; largest 0.1 / 4 = 0.025, mean sqrt(0.01 / 20) = 0.022.

From the original's the mean alone is told: what was pruned or trained is meant to be another function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trimtab.candidate import Json
from trimtab.errors import ConversionError
from trimtab.verify.predictor import Array, Predictor

BATCH = 256  # rows a call: an output may be large, and is never held for all rows
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Further:
    """One output beside the one that decides.

    Attributes:
        largest, mean: from the torch module the candidate was converted from; see the module.
        from_original: mean from the original's; None where that was not compared.
        high: largest absolute value that the module gives, of which `largest` is a share. row: where it differs most.
            Both are 0 in the records of earlier releases.
    """

    name: str
    largest: float
    mean: float
    from_original: float | None = None
    high: float = 0.0
    row: int = 0

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Further:
        """The inverse of `dataclasses.asdict`."""
        return cls(**value)


def compare_further(
    reference: Predictor, candidate: Predictor, inputs: Mapping[str, Array], original: Predictor | None = None
) -> tuple[Further, ...]:
    """Compare all further outputs on the same rows.

    Args:
        reference: the torch module that the candidate was converted from. inputs: name → array (n ≥ 1, ...).
        original: what was not compressed, if that is to be compared too.

    Raises:
        ConversionError: an output has another shape than the reference's, or is not finite.
    """
    names = [str(tensor["name"]) for tensor in candidate.spec["outputs"][1:]]
    near, far = ({name: _Sums() for name in names} for _ in range(2))
    rows = len(next(iter(inputs.values()))) if names else 0
    for start in range(0, rows, BATCH):
        asked = {name: values[start : start + BATCH] for name, values in inputs.items()}
        given, expected = candidate.predict(asked), reference.predict(asked)
        at_first = original.predict(asked) if original is not None else {}
        for name in names:
            near[name].add(name, start, expected[name], given[name])
            if original is not None:
                far[name].add(name, start, at_first[name], given[name])
    return tuple(
        Further(
            name,
            near[name].largest,
            near[name].mean,
            far[name].mean if original is not None else None,
            near[name].high,
            near[name].row,
        )
        for name in names
    )


class _Sums:
    """What both figures follow from, batch by batch."""

    def __init__(self) -> None:
        self._off = self.high = self._off_squared = self._squared = 0.0
        self.row = 0

    def add(self, name: str, start: int, expected: Array, given: Array) -> None:
        if expected.shape != given.shape:
            raise ConversionError(f"output {name!r} has shape {given.shape}, not {expected.shape}", where="parity")
        finite = np.isfinite(given).reshape(len(given), -1).all(axis=1)
        if not finite.all():
            bad = start + int((~finite).argmax())
            raise ConversionError(f"output {name!r} of row {bad} is not finite", where="parity")
        wide = expected.astype(np.float64)
        off = np.abs(wide - given)
        by_row = off.reshape(len(off), -1).max(axis=1, initial=0)
        if by_row.max() > self._off:
            self._off, self.row = float(by_row.max()), start + int(by_row.argmax())
        self.high = max(self.high, float(np.abs(wide).max(initial=0)))
        self._off_squared += float(np.square(off).sum())
        self._squared += float(np.square(wide).sum())

    @property
    def largest(self) -> float:
        return self._off / max(self.high, TINY)

    @property
    def mean(self) -> float:
        return float(np.sqrt(self._off_squared / max(self._squared, TINY)))
