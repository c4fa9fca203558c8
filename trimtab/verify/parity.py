"""Does the converted candidate answer like the torch model: on every row, at every batch size, at the edges.

An FP32 conversion must give the same numbers (`atol`). One of another precision (INT8, FP16, clustered weights) cannot;
there the share of rows whose *decision* differs is what counts, and it carries an exact interval.

Of a regression, differences are shares of the scale of the answers: of the largest absolute answer of the original
over the rows, output by output, since rounding of floats is relative. Answers differ where they are further apart than
`tolerance` standard deviations of the original's answers (`scale.py`).

Further outputs are compared beside the one that decides, on the same rows and at the same edges (`further.py`).

Where it does not, the graph is opened and the first layer that differs is named (`convert.first_difference`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from trimtab.candidate import Interval, Json
from trimtab.convert.difference import FirstDifference
from trimtab.errors import ConversionError, DataError
from trimtab.verify.accuracy import exact
from trimtab.verify.edges import Edge, axis_edges, batch_edges, odd_value_edges, value_edges
from trimtab.verify.further import Further, compare_further
from trimtab.verify.predictor import Array, Predictor, probabilities
from trimtab.verify.scale import Scale

WORST = 5
MOST_OPENED = 32  # rows: every result of every layer is kept for them
INT8_SELF_ATOL = 0.05  # the same row in another batch: a rounding step of a quantizer may fall the other way
Explain = Callable[[Mapping[str, Array], int], FirstDifference | str]


@dataclass(frozen=True)
class Parity:
    """How far a candidate's answers are from the reference's.

    Attributes:
        rows: rows compared.
        atol: largest absolute difference allowed; None where only decisions count (any precision but FP32).
        max_abs, max_rel: largest absolute difference of a probability, and relative to the reference's.
        disagreement: share of rows whose most probable class differs.
        worst: the rows with the largest difference: (row, reference's probabilities, candidate's).
        edges: probes at batch sizes, axes, constants, extremes, NaN and infinity.
        where: of answers that are wrong, the first layer that differs, or why none can be named; None where none is.
        tolerance: of a regression, beyond how many standard deviations of the answers one differs; None of classes.
        further: outputs beside the one that decides; in FP32 each is held to `atol`, as a share of its largest value.
    """

    rows: int
    atol: float | None
    max_abs: float
    max_rel: float
    disagreement: Interval
    worst: tuple[tuple[int, tuple[float, ...], tuple[float, ...]], ...]
    edges: tuple[Edge, ...]
    where: FirstDifference | str | None = None
    tolerance: float | None = None
    further: tuple[Further, ...] = ()

    @property
    def edges_ok(self) -> bool:
        """Whether every edge that decides is right."""
        return all(edge.ok for edge in self.edges if edge.decides)

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe; `tolerance` is not in that of a classifier, `further` only where there are any."""
        unused = {"tolerance": self.tolerance is None, "further": not self.further}
        return {key: value for key, value in asdict(self).items() if not unused.get(key, False)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Parity:
        """The inverse of `to_json`."""
        worst = tuple((row, tuple(one), tuple(other)) for row, one, other in value["worst"])
        edges = tuple(Edge(**edge) for edge in value["edges"])
        interval = Interval(**value["disagreement"])
        held = value.get("where")  # not in the records of earlier releases
        where = FirstDifference.from_json(held) if isinstance(held, Mapping) else held
        further = tuple(Further.from_json(one) for one in value.get("further", ()))
        found = {"disagreement": interval, "worst": worst, "edges": edges, "where": where, "further": further}
        return cls(**{**value, **found})


def compare(
    reference: Predictor,
    candidate: Predictor,
    inputs: Mapping[str, Array],
    atol: float | None,
    confidence: float,
    *,
    batch_invariant: bool = True,
    explain: Explain | None = None,
    max_disagreement: float = 1.0,
    tolerance: float | None = None,
    original: Predictor | None = None,
) -> Parity:
    """Compare two predictors on the same rows.

    Args:
        inputs: name → array (n, ...), raw as a user sends them.
        atol: largest absolute difference of FP32 probabilities; None compares decisions only.
        confidence: of the interval of the disagreement (Clopper-Pearson).
        batch_invariant: False for what answers a row differently in another batch by design (dynamic quantization):
            by how much is reported and does not decide.
        explain: inputs that are answered wrong, and the place of the output that is → the first layer that differs;
            called only when something is wrong.
        max_disagreement: where decisions are compared, the share of others above which something is wrong.
        tolerance: of a regression, see `Parity`; None for a classifier.
        original: what was not compressed, from which further outputs are told apart too.

    Raises:
        DataError: no rows. ConversionError: the answers have different shapes, or are not finite.
    """
    rows = len(next(iter(inputs.values()), ()))
    if not rows:
        raise DataError("no rows to compare on", where="parity", fix="give a non-empty split")
    expected, given = probabilities(reference, inputs), probabilities(candidate, inputs)
    if expected.shape != given.shape:
        raise ConversionError(f"answers {given.shape}, the original {expected.shape}", where="parity")
    if not np.isfinite(given).all():
        bad = int((~np.isfinite(given)).any(axis=1).argmax())
        raise ConversionError(f"the answer to row {bad} is not finite", where="parity")
    further = compare_further(reference, candidate, inputs, original)
    scale = Scale.of(expected, tolerance, {one.name: one.high for one in further})
    distance = np.abs(expected.astype(np.float64) - given) / scale.largest
    relative = distance / np.maximum(np.abs(expected), np.finfo(np.float32).tiny)
    order = np.argsort(-distance.max(axis=1), kind="stable")[:WORST]
    share = exact(int(scale.differ(expected, given).sum()), rows, confidence)
    probed = [
        *batch_edges(candidate, inputs, given, INT8_SELF_ATOL if atol is None else atol, batch_invariant, scale),
        *axis_edges(reference, candidate, inputs, atol, scale),
        *value_edges(reference, candidate, inputs, atol, scale),
        *odd_value_edges(reference, candidate, inputs),
    ]
    wrong = share.value > max_disagreement if atol is None else float(distance.max()) > atol
    worst = {name: values[order] for name, values in inputs.items()}
    asked = (worst, 0) if wrong else _wrong_further(further, inputs, atol) or _wrong_at_an_edge(probed)
    return Parity(
        rows=rows,
        atol=atol,
        max_abs=float(distance.max()),
        max_rel=float(relative.max()),
        disagreement=share,
        worst=tuple((int(row), _floats(expected[row]), _floats(given[row])) for row in order),
        edges=tuple(edge for edge, _ in probed),
        where=None if explain is None or asked is None else explain(*asked),
        tolerance=tolerance,
        further=further,
    )


def _wrong_further(
    further: Sequence[Further], inputs: Mapping[str, Array], atol: float | None
) -> tuple[Mapping[str, Array], int] | None:
    """The row at which the first wrong one of the further outputs is furthest off, and its place."""
    for place, one in enumerate(further, 1):
        if atol is not None and one.largest > atol:
            return {name: values[one.row : one.row + 1] for name, values in inputs.items()}, place
    return None


def _wrong_at_an_edge(
    probed: Sequence[tuple[Edge, Mapping[str, Array]]],
) -> tuple[Mapping[str, Array], int] | None:
    """What the first probe that decides and went wrong asked about, a few rows of it, and which output went wrong."""
    for edge, asked in probed:
        if edge.decides and not edge.ok:
            return {name: values[:MOST_OPENED] for name, values in asked.items()}, edge.output
    return None


def _floats(row: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in row)
