"""Does the converted candidate answer like the torch model: on every row, at every batch size, at the edges.

An FP32 conversion must give the same numbers (`atol`). One of another precision (INT8, FP16, clustered weights) cannot;
there the share of rows whose *decision* differs is what counts, and it carries an exact interval.

Of a regression, differences are shares of the scale of the answers: of the largest absolute answer of the original
over the rows, output by output, since rounding of floats is relative. Answers differ where they are further apart than
`tolerance` standard deviations of the original's answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from trimtab.candidate import Interval, Json
from trimtab.errors import ConversionError, DataError
from trimtab.runtime.door import InputError
from trimtab.verify.accuracy import exact
from trimtab.verify.predictor import Array, Predictor, answered, probabilities

BATCHES = (1, 3, 17)
ALL_AT_ONCE = 2048  # rows of the largest single call
WORST = 5
INT8_SELF_ATOL = 0.05  # the same row in another batch: a rounding step of a quantizer may fall the other way
SUM_ATOL = 1e-3


@dataclass(frozen=True)
class Edge:
    """One probe at an edge: what was tried, whether the answer was right, and the figure.

    `decides` is False for what is reported only. A NaN input is such a case: ReLU on OpenVINO and max pooling on ONNX
    Runtime may swallow a NaN that torch passes on, so hardly a conversion could ever pass.
    """

    name: str
    ok: bool
    detail: str
    decides: bool = True


@dataclass(frozen=True)
class Parity:
    """How far a candidate's answers are from the reference's.

    Attributes:
        rows: rows compared.
        atol: largest absolute difference allowed; None where only decisions count (any precision but FP32).
        max_abs, max_rel: largest absolute difference of a probability, and relative to the reference's.
        disagreement: share of rows whose most probable class differs.
        worst: the rows with the largest difference: (row, reference's probabilities, candidate's).
        edges: probes at batch sizes, zeros, extremes and NaN.
        tolerance: of a regression, beyond how many standard deviations of the answers one differs; None of classes.
    """

    rows: int
    atol: float | None
    max_abs: float
    max_rel: float
    disagreement: Interval
    worst: tuple[tuple[int, tuple[float, ...], tuple[float, ...]], ...]
    edges: tuple[Edge, ...]
    tolerance: float | None = None

    @property
    def edges_ok(self) -> bool:
        """Whether every edge that decides is right."""
        return all(edge.ok for edge in self.edges if edge.decides)

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe; `tolerance` is not in that of a classifier."""
        plain = asdict(self)
        if self.tolerance is None:
            del plain["tolerance"]
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Parity:
        """The inverse of `to_json`."""
        worst = tuple((row, tuple(one), tuple(other)) for row, one, other in value["worst"])
        edges = tuple(Edge(**edge) for edge in value["edges"])
        interval = Interval(**value["disagreement"])
        return cls(**{**value, "disagreement": interval, "worst": worst, "edges": edges})


def compare(
    reference: Predictor,
    candidate: Predictor,
    inputs: Mapping[str, Array],
    atol: float | None,
    confidence: float,
    *,
    batch_invariant: bool = True,
    tolerance: float | None = None,
) -> Parity:
    """Compare two predictors on the same rows.

    Args:
        inputs: name → array (n, ...), raw as a user sends them.
        atol: largest absolute difference of FP32 probabilities; None compares decisions only.
        confidence: of the interval of the disagreement (Clopper-Pearson).
        batch_invariant: False for what answers a row differently in another batch by design (dynamic quantization):
            by how much is reported and does not decide.
        tolerance: of a regression, see `Parity`; None for a classifier.

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
    scale = _Scale.of(expected, tolerance)
    distance = np.abs(expected.astype(np.float64) - given) / scale.largest
    relative = distance / np.maximum(np.abs(expected), np.finfo(np.float32).tiny)
    order = np.argsort(-distance.max(axis=1), kind="stable")[:WORST]
    differing = int(scale.differ(expected, given).sum())
    return Parity(
        rows=rows,
        atol=atol,
        max_abs=float(distance.max()),
        max_rel=float(relative.max()),
        disagreement=exact(differing, rows, confidence),
        worst=tuple((int(row), _floats(expected[row]), _floats(given[row])) for row in order),
        edges=(
            *_batch_edges(candidate, inputs, given, INT8_SELF_ATOL if atol is None else atol, batch_invariant, scale),
            *_value_edges(reference, candidate, inputs, atol, scale),
            _nan_edge(reference, candidate, inputs),
        ),
        tolerance=tolerance,
    )


@dataclass(frozen=True)
class _Scale:
    """What a difference is measured by: 1 and the decision of a classifier; of a regression the answers themselves.

    Attributes:
        largest: float64 (k,), the largest absolute answer of each output; 1 where all are 0.
        spread: float64 (k,), standard deviation of the answers. tolerance: None of a classifier.
    """

    largest: Array
    spread: Array
    tolerance: float | None

    @classmethod
    def of(cls, expected: Array, tolerance: float | None) -> _Scale:
        wide = expected.astype(np.float64)
        if tolerance is None:
            return cls(np.ones(wide.shape[1]), np.ones(wide.shape[1]), None)
        largest = np.abs(wide).max(axis=0)
        return cls(np.where(largest > 0, largest, 1.0), wide.std(axis=0), tolerance)

    def differ(self, expected: Array, given: Array) -> Array:
        """Which rows count as answered otherwise, bool (n,)."""
        if self.tolerance is None:
            return expected.argmax(axis=1) != given.argmax(axis=1)
        return (np.abs(expected.astype(np.float64) - given) > self.tolerance * self.spread).any(axis=1)

    def distance(self, expected: Array, given: Array) -> float:
        """Largest difference; of numbers beyond the range of the rows, relative to themselves."""
        off = np.abs(expected.astype(np.float64) - given)
        if self.tolerance is None:
            return float(off.max())
        return float((off / np.maximum(np.abs(expected.astype(np.float64)), self.largest)).max())


def _batch_edges(
    candidate: Predictor, inputs: Mapping[str, Array], given: Array, atol: float, decides: bool, scale: _Scale
) -> list[Edge]:
    """The same rows in other batches give the same answers (a graph frozen at one batch size does not)."""
    rows = len(given)
    sizes = dict.fromkeys([*(min(size, rows) for size in BATCHES), min(rows, ALL_AT_ONCE)])

    def probe(size: int) -> Edge:
        answer = answered(candidate, {name: values[:size] for name, values in inputs.items()})
        if answer.shape != given[:size].shape:
            return Edge(f"batch {size}", False, f"answered {answer.shape}")
        distance = scale.distance(given[:size], answer)
        return Edge(f"batch {size}", distance <= atol, f"differs from itself by {distance:.1e}", decides)

    return [_guarded(f"batch {size}", lambda size=size: probe(size)) for size in sizes]  # type: ignore[misc]


def _value_edges(
    reference: Predictor, candidate: Predictor, inputs: Mapping[str, Array], atol: float | None, scale: _Scale
) -> list[Edge]:
    """Zeros everywhere; each input with every element at its smallest or largest value, the others as in row 0."""
    one = {name: values[:1] for name, values in inputs.items()}
    probes = {"all zeros": {name: np.zeros_like(values) for name, values in one.items()}}
    for name, values in inputs.items():
        probes[f"{name} at its smallest"] = {**one, name: values.min(axis=0, keepdims=True)}
        probes[f"{name} at its largest"] = {**one, name: values.max(axis=0, keepdims=True)}

    def probe(label: str, values: Mapping[str, Array]) -> Edge:
        expected, given = answered(reference, values), answered(candidate, values)
        if given.shape != expected.shape:
            return Edge(label, False, f"answered {given.shape}, the original {expected.shape}")
        distance = scale.distance(expected, given)
        if scale.tolerance is not None:
            ok = bool(np.isfinite(given).all()) and (atol is None or distance <= atol)
            return Edge(label, ok, f"differs by {distance:.1e} of the largest answer")
        total = float(given.sum(axis=1)[0])
        ok = abs(total - 1) <= SUM_ATOL and (atol is None or distance <= atol)
        return Edge(label, bool(ok), f"differs by {distance:.1e}, probabilities sum to {total:.4f}")

    return [
        _guarded(label, lambda label=label, values=values: probe(label, values))  # type: ignore[misc]
        for label, values in probes.items()
    ]


def _nan_edge(reference: Predictor, candidate: Predictor, inputs: Mapping[str, Array]) -> Edge:
    """One NaN in each float input: refused, answered with NaN, or answered as if nothing were wrong."""
    one = {name: values[:1].copy() for name, values in inputs.items()}
    floats = [name for name, values in one.items() if values.dtype.kind == "f" and values.size]
    if not floats:
        return Edge("NaN", True, "no float input", decides=False)
    for name in floats:
        one[name].flat[0] = np.nan
    kinds = [_kind_of_answer(predictor, one) for predictor in (reference, candidate)]
    return Edge("NaN", kinds[0] == kinds[1], f"{kinds[1]}; the original: {kinds[0]}", decides=False)


def _kind_of_answer(predictor: Predictor, inputs: Mapping[str, Array]) -> str:
    try:
        answer = answered(predictor, inputs)
    except InputError:
        return "refused"
    return "ordinary numbers" if np.isfinite(answer).all() else "NaN"


def _guarded(name: str, probe: Callable[[], Edge]) -> Edge:
    """A probe that raises is an edge that is wrong: each runtime has its own exceptions, and the text is kept."""
    try:
        return probe()
    except Exception as error:
        reason = str(error).strip().splitlines()
        return Edge(name, False, f"raised {type(error).__name__}: {reason[0][:200] if reason else ''}")


def _floats(row: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in row)
