"""Where a conversion went wrong: the first layer of the original whose result the converted graph does not have.

A converted graph has other operations than the module: batch norm is folded into a convolution, a layer norm becomes
nine nodes. So nothing is matched by place. A result of the graph is *explained* when some operation of the original
gave the same figures for the same rows. From the wrong answer one walks back through results that are not explained;
where all that an operation reads is explained and its own result is not, there it went wrong.

Example, y = softmax(relu(bn(conv(x)))) with one weight of conv turned round. In the graph, conv and bn are one "Conv":

    x explained → Conv not → Relu not → Softmax not (the wrong answer)

walked back to Conv: it reads x, which is explained. In the original x is followed by conv and bn, so that is the layer;
of these two the value nearest to what Conv gave (bn's) is shown beside it. Had bn been right, Conv would be explained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trimtab.convert.difference import FirstDifference
from trimtab.convert.layers import AFTER, AFTER_NUMBERS, BEFORE, Value, layer_values
from trimtab.convert.opened import OPENERS, Operation, operations

Array = NDArray[Any]
ROUNDING = 1e-4  # of a tensor's largest value: sums in another order
QUANTIZED = 0.3  # root mean square over that of the original: INT8 of a few bits' worth; unrelated tensors have 1.4
MOST_NAMED = 3
FOLDED = ("batch_norm", "relu")  # operations that converters fold into the one before
# Operations that only move figures: a graph lays them out otherwise, and nothing is lost with them.
MOVES = {"view", "_unsafe_view", "reshape", "t", "transpose", "permute", "squeeze", "unsqueeze", "expand", "clone"}
MOVES |= {"detach", "lift_fresh", "slice", "select", "split", "_to_copy", "as_strided", "alias"}
NEAR = 0.5  # the same measure: what is nearer than this to a layer's result is that result gone wrong


def first_difference(
    module: nn.Module,
    target: str,
    folder: Path,
    inputs: Mapping[str, Array],
    *,
    quantized: bool = False,
    output: int = 0,
) -> FirstDifference | str:
    """Open a converted folder that does not answer like its module, and find where it goes wrong.

    Costs one run of either with every result kept: give few rows.

    Args:
        module: the deployed module, in eval mode.
        target, folder: what was converted.
        inputs: name → array (n, ...), rows whose answer is wrong.
        quantized: results of the graph are rounded to few bits: they only have to be near.
        output: which output is answered wrong, by its place in the specification.

    Returns:
        The first difference, or a sentence that says why none can be named. It never raises: it explains a failure that
        is reported anyhow.
    """
    if target not in OPENERS:
        return f"layers cannot be compared: {target} does not give its intermediate results"
    try:
        original, graph = layer_values(module, inputs, output), operations(target, folder, inputs, output)
        if not graph:
            return "layers cannot be compared: the graph shows no result that depends on an input"
        return locate(original, graph, quantized=quantized)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        return f"layers cannot be compared: {type(error).__name__}: {reason}"


def locate(original: Sequence[Value], graph: Sequence[Operation], *, quantized: bool = False) -> FirstDifference | str:
    """`first_difference` of what was recorded."""
    answer = graph[-1]
    if answer.array is not None and _same(original[-1].array, answer.array, quantized):
        return (
            "with every intermediate result kept the graph answers right: look for what the runtime fuses, and for "
            "the batch it ran in"
        )
    places = {one.name: _places(original, one.array, quantized) for one in graph}
    for place, value in enumerate(original):
        if value.layer.startswith("input "):
            places[value.layer.removeprefix("input ").strip("'")] = [place]
    compared = sum(one.array is not None for one in graph)
    matched = sum(bool(places[one.name]) for one in graph)
    resolution = f"{matched} of {compared} results of the graph found among {len(original)} of the original"
    if places[answer.name]:
        return _cut_short(original, answer, original[places[answer.name][-1]], resolution)
    wrong = _first_wrong(graph, places)
    reads = _float_reads(wrong, {one.name: one for one in graph}, places)
    # A figure may occur several times (a dropout, a reshape): what follows its first place may be what went wrong.
    after = max((min(places[name]) for name in reads if places.get(name)), default=-1)
    agrees = tuple(dict.fromkeys(str(original[max(places[name])]) for name in reads if places.get(name)))
    wrong = _end_of_layer(wrong, graph)
    known = {id(original[place]) for found in places.values() for place in found}
    layer, expected = _counterpart(original, after, wrong, known)
    until = next(place for place, value in enumerate(original) if value is expected)
    missing = _missing(original[after + 1 : until], graph, layer, quantized)
    return _described(layer, expected, wrong, (agrees or ("the inputs",), missing), resolution)


def _cut_short(original: Sequence[Value], answer: Operation, is_really: Value, resolution: str) -> FirstDifference:
    last = original[-2] if len(original) > 1 else original[-1]
    layer = f"{last}, which is missing: the answer is the result of {is_really}"
    return _described(layer, original[-1], answer, ((str(is_really),), ()), resolution)


def _first_wrong(graph: Sequence[Operation], places: Mapping[str, list[int]]) -> Operation:
    """Walk back from the answer through what is not explained, to the earliest operation with nothing wrong before."""
    by_name = {one.name: one for one in graph}
    seen: set[str] = set()
    waiting = [graph[-1].name]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += [read for read in _float_reads(by_name[name], by_name, places) if not places.get(read)]
    sources = [
        one
        for one in graph
        if one.name in seen and all(places.get(read) for read in _float_reads(one, by_name, places))
    ]
    # Beside the wrong operation there may be a step of another branch that the original does not take (x / 8 of an
    # attention): what carries a layer's name is not of that kind.
    named = [one for one in sources if one.layer]
    return (named or sources or [graph[-1]])[0]


def _end_of_layer(wrong: Operation, graph: Sequence[Operation]) -> Operation:
    """The last operation of the same layer: a linear layer may be a product and, after it, the addition of its bias."""
    for one in graph:
        follows = wrong.layer and one.layer == wrong.layer and wrong.name in one.reads
        if follows and one.array is not None and wrong.array is not None and one.array.size == wrong.array.size:
            return _end_of_layer(one, graph)
    return wrong


def _float_reads(one: Operation, by_name: Mapping[str, Operation], places: Mapping[str, list[int]]) -> list[str]:
    """What an operation reads that has figures to compare; looked through are integers (shapes, indices)."""
    found: list[str] = []
    waiting = list(reversed(one.reads))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in by_name and by_name[name].array is None:
            waiting += reversed(by_name[name].reads)
        elif name in by_name or name in places:
            found.append(name)
    return found


def _counterpart(original: Sequence[Value], after: int, wrong: Operation, known: set[int]) -> tuple[str, Value]:
    """What to lay beside a wrong result, and the layers of the original it stands for.

    The layer whose name it carries. Else, of all that follow and are not found in the graph (`known`: ids of those that
    are), the nearest if it is near, or the first layer. Folded layers count as one, and the nearest of them is shown.
    """
    given = wrong.array
    assert given is not None
    rest = original[after + 1 : -1] or original[-1:]
    following = [value for value in rest if value.array.size == given.size] or list(rest)
    layers = [value.layer for value in following]
    if wrong.layer in layers:
        end = _end_of_run(layers, wrong.layer)
    else:
        lost = [
            place
            for place in range(len(following))
            if not any(id(value) in known for value in _folded(following, place))
        ] or list(range(len(following)))
        nearest = min(lost, key=lambda place: _distance(following[place].array, given))
        inside = [place for place in lost if layers[place] not in (BEFORE, AFTER, AFTER_NUMBERS)]
        near = _distance(following[nearest].array, given) < NEAR
        end = nearest if near or not inside else inside[0] + _end_of_run(layers[inside[0] :], layers[inside[0]])
    folded = _folded(following, end)
    beside = min(folded, key=lambda value: _distance(value.array, given))
    return (str(folded[0]) if beside is folded[0] else f"{folded[0]} with {beside}"), beside


def _folded(values: Sequence[Value], place: int) -> list[Value]:
    """A value and those after it that a converter would fold into it."""
    found = [values[place]]
    for value in values[place + 1 :]:
        if not any(word in value.kind for word in FOLDED):
            break
        found.append(value)
    return found


def _end_of_run(layers: Sequence[str], layer: str) -> int:
    """Where the first run of a layer ends: one that is called again later is another step."""
    start = layers.index(layer)
    rest = [place for place in range(start, len(layers)) if layers[place] != layer]
    return (rest[0] if rest else len(layers)) - 1


def _missing(between: Sequence[Value], graph: Sequence[Operation], layer: str, quantized: bool) -> tuple[str, ...]:
    """Steps of the original whose figures no operation has; the layer itself is named already."""
    names = dict.fromkeys(
        str(value)
        for value in between
        if value.kind.rsplit("aten.", 1)[-1] not in MOVES
        and not any(one.array is not None and _same(value.array, one.array, quantized) for one in graph)
    )
    return tuple(name for name in names if name not in layer)[-MOST_NAMED:]


def _described(
    layer: str, expected: Value, wrong: Operation, before: tuple[tuple[str, ...], tuple[str, ...]], resolution: str
) -> FirstDifference:
    operation = f"{wrong.kind} {wrong.name!r}"
    if wrong.array is None or wrong.array.size != expected.array.size:
        return FirstDifference(layer, operation, *before, None, (), None, None, resolution)
    given = wrong.array.reshape(expected.array.shape).astype(np.float64)
    distance = np.abs(given - expected.array)  # a figure without axes gives a NumPy scalar here
    distance = np.where(np.isfinite(distance), distance, np.inf)
    index = np.unravel_index(int(distance.argmax()), distance.shape)
    return FirstDifference(
        layer,
        operation,
        *before,
        _finite(distance[index]),
        tuple(int(place) for place in index),
        _finite(expected.array[index]),
        _finite(given[index]),
        resolution,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _places(original: Sequence[Value], array: Array | None, quantized: bool) -> list[int]:
    if array is None:
        return []
    return [place for place, value in enumerate(original[:-1]) if _same(value.array, array, quantized)]


def _same(expected: Array, given: Array, quantized: bool) -> bool:
    if expected.size != given.size:
        return False
    if quantized:
        return _distance(expected, given) < QUANTIZED
    largest = float(np.abs(expected).max(initial=0))
    limit = ROUNDING * largest if np.isfinite(largest) else ROUNDING
    return bool(np.allclose(expected.reshape(-1), given.reshape(-1), rtol=ROUNDING, atol=limit, equal_nan=True))


def _distance(expected: Array, given: Array) -> float:
    """Root mean square of the difference over that of the expected values; infinite for other sizes or figures."""
    if expected.size != given.size:
        return float("inf")
    want, have = expected.reshape(-1).astype(np.float64), given.reshape(-1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        ratio = float(np.sqrt(np.mean((want - have) ** 2)) / max(np.sqrt(np.mean(want**2)), 1e-12))
    return ratio if np.isfinite(ratio) else float("inf")
