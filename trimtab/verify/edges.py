"""Probes at the edges: batch sizes, shortest and longest axes, constants, extremes of the range, NaN and infinity.

What decides and what is reported: a conversion must answer like the original at every batch size, on every axis that
may change, and for every finite value within the range of the data. A NaN or an infinity in an input is outside that:
ReLU on OpenVINO and max pooling on ONNX Runtime may swallow a NaN that torch passes on, so hardly a conversion could
ever pass. What each of both does with them (refuses, passes on, hides) is said, input by input, and does not decide.

Zeros and extremes are invented: where the original itself answers one with NaN (a mask that hides a whole row), there
is nothing to compare with, which is said. On real rows, at every size of an axis, NaN counts.

Every output is compared. Further ones are held to what they are held to on ordinary rows: in FP32 to the same share of
their largest value, otherwise to their shape and to being finite (`further_edges`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from trimtab.free_axes import axes_of, by_name, resized, size_of, sizes_to_try
from trimtab.runtime.door import InputError
from trimtab.verify.further_edges import NOT_COMPARED, beside
from trimtab.verify.predictor import Array, Predictor, all_answers, deciding
from trimtab.verify.scale import Scale

BATCHES = (1, 3, 17)
ALL_AT_ONCE = 2048  # rows of the largest single call
AXIS_ROWS = 16  # asked at each size of a free axis
SUM_ATOL = 1e-3
ODD = {"NaN": np.nan, "+inf": np.inf, "-inf": -np.inf}
Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class Edge:
    """One probe at an edge: what was tried, whether the answer was right, and the figure.

    `decides` is False for what is reported only. `output` is the place of the first output that is wrong, in the order
    of the specification.
    """

    name: str
    ok: bool
    detail: str
    decides: bool = True
    output: int = 0


def batch_edges(
    candidate: Predictor, inputs: Inputs, given: Array, atol: float, decides: bool, scale: Scale
) -> Iterator[tuple[Edge, Inputs]]:
    """The same rows in other batches give the same answers (a graph frozen at one batch size does not).

    Args:
        given: the candidate's answers to all rows, as they were first asked.
        scale: what differences are measured by.
        decides: False where a row may be answered differently in another batch by design.

    Yields each edge with the rows it was asked about; so do the others.
    """
    rows = len(given)
    known = {"": given}
    if scale.beside:
        known = all_answers(candidate, {name: values[:ALL_AT_ONCE] for name, values in inputs.items()})

    def probe(name: str, asked: Inputs) -> Edge:
        size = len(next(iter(asked.values())))
        answers, before = candidate.predict(asked), {name: values[:size] for name, values in known.items()}
        answer, first = deciding(answers), deciding(before)
        if answer.shape != first.shape:
            return Edge(name, False, f"answered {answer.shape}")
        distance = scale.distance(first, answer)
        edge = Edge(name, distance <= atol, f"differs from itself by {distance:.1e}", decides)
        return _with_others(edge, before, answers, atol, scale)

    for size in dict.fromkeys([*(min(size, rows) for size in BATCHES), min(rows, ALL_AT_ONCE)]):
        asked = {name: values[:size] for name, values in inputs.items()}
        yield _guarded(f"batch {size}", probe, asked), asked


def value_edges(
    reference: Predictor, candidate: Predictor, inputs: Inputs, atol: float | None, scale: Scale
) -> Iterator[tuple[Edge, Inputs]]:
    """Zeros everywhere; each input with every element at its own extreme, or at that of all; the others as in row 0."""
    one = {name: values[:1] for name, values in inputs.items()}
    probes = {"all zeros": {name: np.zeros_like(values) for name, values in one.items()}}
    for name, values in inputs.items():
        probes[f"{name} at its smallest"] = {**one, name: values.min(axis=0, keepdims=True)}
        probes[f"{name} at its largest"] = {**one, name: values.max(axis=0, keepdims=True)}
        if values.dtype.kind == "f":
            probes[f"{name} constant at the smallest"] = {**one, name: np.full_like(values[:1], values.min())}
            probes[f"{name} constant at the largest"] = {**one, name: np.full_like(values[:1], values.max())}
    for label, asked in probes.items():
        yield _compared(label, reference, candidate, asked, atol, scale, invented=True), asked


def axis_edges(
    reference: Predictor, candidate: Predictor, inputs: Inputs, atol: float | None, scale: Scale
) -> Iterator[tuple[Edge, Inputs]]:
    """Each axis besides the batch that may change at the shortest size its bounds allow, an odd one, and the longest.

    The first rows are cut, or repeated until they are long enough (`trimtab.free_axes`); inputs that share the axis
    together, the others as they are. Without bounds the sizes are 1 and twice that of the data, and the original may
    refuse them, which is said; what the bounds allow, it must answer.
    """
    few = {name: values[:AXIS_ROWS] for name, values in inputs.items()}
    axes = axes_of(reference.spec)
    for name, axis in by_name(axes).items():
        for word, size in sizes_to_try(axis, size_of(few, axes, name)).items():
            label, asked = f"axis {name!r} at {size} ({word})", resized(few, axes, name, size)
            yield _compared(label, reference, candidate, asked, atol, scale), asked
    yield from _unbounded(reference, candidate, inputs, atol, scale)


def _unbounded(
    reference: Predictor, candidate: Predictor, inputs: Inputs, atol: float | None, scale: Scale
) -> Iterator[tuple[Edge, Inputs]]:
    one = {name: values[:1] for name, values in inputs.items()}
    places = {tensor["name"]: tensor["shape"] for tensor in reference.spec["inputs"]}
    symbols = dict.fromkeys(size for shape in places.values() for size in shape[1:] if isinstance(size, str))
    for symbol in symbols:
        if symbol in reference.spec.get("axes", {}):
            continue
        for word, resize in (("shortest", _first), ("longest", _twice)):
            asked = dict(one)
            for name, shape in places.items():
                for axis in [axis for axis, size in enumerate(shape) if size == symbol]:
                    asked[name] = resize(asked[name], axis)
            label = f"axis {symbol!r} at its {word}"
            try:
                reference.predict(asked)
            except Exception as error:
                yield Edge(label, True, f"the original refuses it: {_first_line(error)}", decides=False), asked
                continue
            yield _compared(label, reference, candidate, asked, atol, scale), asked


def odd_value_edges(reference: Predictor, candidate: Predictor, inputs: Inputs) -> Iterator[tuple[Edge, Inputs]]:
    """One NaN, one infinity of either sign in each float input: what does each of both make of it."""
    one = {name: values[:1] for name, values in inputs.items()}
    floats = [name for name, values in one.items() if values.dtype.kind == "f" and values.size]
    if not floats:
        yield Edge("NaN", True, "no float input", decides=False), one
    for name in floats:
        for label, value in ODD.items():
            odd = one[name].copy()
            odd.flat[0] = value
            asked = {**one, name: odd}
            kinds = [_kind_of_answer(predictor, asked) for predictor in (reference, candidate)]
            detail = f"{kinds[1]}; the original: {kinds[0]}"
            yield Edge(f"{label} in {name}", kinds[0] == kinds[1], detail, decides=False), asked


def _compared(
    label: str,
    reference: Predictor,
    candidate: Predictor,
    asked: Inputs,
    atol: float | None,
    scale: Scale,
    invented: bool = False,
) -> Edge:
    def probe(name: str, asked: Inputs) -> Edge:
        expected, given = reference.predict(asked), candidate.predict(asked)
        edge = _deciding(name, deciding(expected), deciding(given), atol, scale, invented)
        return _with_others(edge, expected, given, atol, scale, invented)

    return _guarded(label, probe, asked)


def _deciding(name: str, expected: Array, given: Array, atol: float | None, scale: Scale, invented: bool) -> Edge:
    if given.shape != expected.shape:
        return Edge(name, False, f"answered {given.shape}, the original {expected.shape}")
    if invented and not np.isfinite(expected).all():
        return Edge(name, True, NOT_COMPARED)
    distance = scale.distance(expected, given)
    others = f"; {int(scale.differ(expected, given).sum())} of {len(given)} answered otherwise"
    others = "" if atol is not None or len(given) == 1 else others
    if scale.tolerance is not None:
        ok = bool(np.isfinite(given).all()) and (atol is None or distance <= atol)
        return Edge(name, ok, f"differs by {distance:.1e} of the largest answer{others}")
    sums = given.sum(axis=1)
    total = float(sums[np.abs(sums - 1).argmax()])
    ok = abs(total - 1) <= SUM_ATOL and (atol is None or distance <= atol)
    return Edge(name, bool(ok), f"differs by {distance:.1e}, probabilities sum to {total:.4f}{others}")


def _with_others(
    edge: Edge,
    expected: Mapping[str, Array],
    given: Mapping[str, Array],
    limit: float | None,
    scale: Scale,
    invented: bool = False,
) -> Edge:
    """The edge of the deciding output, with what was seen of the others."""
    others = beside(expected, given, limit, scale, invented)
    detail = "; ".join((edge.detail, *others.detail))
    if edge.ok and others.wrong is not None:
        return replace(edge, ok=False, detail=detail, output=others.wrong)
    return replace(edge, detail=detail)


def _first(values: Array, axis: int) -> Array:
    return values.take([0], axis=axis)


def _twice(values: Array, axis: int) -> Array:
    return np.concatenate([values, values], axis=axis)


def _kind_of_answer(predictor: Predictor, inputs: Inputs) -> str:
    try:
        answers = predictor.predict(inputs)
    except InputError:
        return "refused"
    kinds = {name: "ordinary numbers" if np.isfinite(one).all() else "NaN" for name, one in answers.items()}
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    return ", ".join(f"{kind} in {name}" for name, kind in kinds.items())


def _guarded(name: str, probe: Callable[[str, Inputs], Edge], asked: Inputs) -> Edge:
    """A probe that raises is an edge that is wrong: each runtime has its own exceptions, and the text is kept."""
    try:
        return probe(name, asked)
    except Exception as error:
        return Edge(name, False, f"raised {type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
