"""Does what was written answer like the torch module? Asked at several batch sizes, and on values it never saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trimtab.convert.difference import FirstDifference
from trimtab.convert.graph import outputs_of
from trimtab.convert.tracing import first_line
from trimtab.errors import ConversionError
from trimtab.free_axes import FIXED, Axes, by_name, resized, size_of, sizes_to_try
from trimtab.outputs import OURS
from trimtab.runtime.eager import call, several
from trimtab.task import PROBABILITIES

Array = NDArray[Any]
Answer = Callable[[Mapping[str, Array]], Mapping[str, Array]]
BATCHES = (1, 2, 3, 17)  # one, the smallest dynamic one, an odd one, a prime no example has
# Of probabilities; of numbers relative to the largest of them. Coarse on purpose: it tells a wrong graph from rounding.
# Verification measures parity properly.
TOLERANCE = 1e-3
STEPS = 2e-2  # the same of a further output in integers, in another batch: a few steps of 255
MOST_OPENED = 4  # rows whose every intermediate result is kept: 0.3 GB a row of a ResNet-50


def probes(example: Mapping[str, Array], axes: Axes = FIXED) -> list[tuple[str, dict[str, Array]]]:
    """Named inputs: the example's rows at each batch size, at other sizes of each free axis, then other values.

    Other values: floats are negated, zeroed, or spread over three times their range; integers stay within the
    example's range (they may be indices), bools are flipped.
    """
    rows = len(next(iter(example.values())))
    cases = [(f"batch {size}", {k: v[np.arange(size) % rows] for k, v in example.items()}) for size in BATCHES]
    whole = cases[-1][1]
    cases += lengths(cases[1][1], axes)
    for kind in ("opposite values", "constant values", "shuffled values"):
        cases.append((kind, {name: _other(values, kind) for name, values in whole.items()}))
    return cases


def lengths(rows: Mapping[str, Array], axes: Axes) -> list[tuple[str, dict[str, Array]]]:
    """The rows at the shortest, an odd, and the longest size of each free axis."""
    return [
        (f"{name} {size}", resized(rows, axes, name, size))
        for name, axis in by_name(axes).items()
        for size in dict.fromkeys(sizes_to_try(axis, size_of(rows, axes, name)).values())
    ]


def _other(values: Array, kind: str) -> Array:
    flat = np.random.default_rng(0).permutation(values.reshape(-1)).reshape(values.shape)
    if values.dtype.kind == "b":
        return {"opposite values": ~values, "constant values": np.zeros_like(values)}.get(kind, flat)
    if values.dtype.kind == "i":
        ends = values.max() + values.min() - values
        return {"opposite values": ends, "constant values": np.full_like(values, values.min())}.get(kind, flat)
    return {"opposite values": -values, "constant values": np.zeros_like(values)}.get(kind, flat * np.float32(3))


def check_answers(
    module: nn.Module,
    example: Mapping[str, Array],
    answer: Answer,
    target: str,
    folder: Path | None = None,
    axes: Axes = FIXED,
) -> None:
    """Compare a converted model with the module it was made from.

    Args:
        module: the deployed module, in eval mode.
        answer: inputs → outputs by name of the converted model.
        target: for messages.
        folder: what was written, to be opened when it answers wrong, so that the layer can be named.
        axes: of inputs that are free besides the batch.

    Raises:
        ConversionError: it fails at a batch size or at a size of a free axis, or an output has another shape, or other
            figures.
    """
    sized = {name for name, _ in lengths(example, axes)}
    outputs, largest = outputs_of(module), dict[str, float]()
    for name, inputs in probes(example, axes):
        real = name.startswith("batch") or name in sized
        try:
            with torch.inference_mode():
                asked = several(call(module, {key: torch.tensor(value) for key, value in inputs.items()}))
        except Exception as error:
            if not real:
                continue  # values that the module itself refuses cannot be compared
            raise ConversionError(
                f"the module itself cannot run at {name}: {type(error).__name__}: {error}",
                where=type(module).__name__,
                fix="forward must take any number of rows"
                + (", and every size between min and max" if name in sized else ""),
            ) from None
        answers = _answer(answer, inputs, outputs, name, target)
        for place, (output, tensor) in enumerate(zip(outputs, asked, strict=True)):
            expected, given = tensor.numpy(), answers[output]
            largest[output] = max(largest.get(output, 0.0), _largest(expected))
            try:
                pair = (expected, given) if real else _defined(expected, given)
                _compare(*pair, name, target, output, largest[output])
            except ConversionError as error:
                if folder is None:
                    raise
                where = _where(module, target, folder, inputs, _worst_rows(expected, given), place)
                raise ConversionError(f"{error.what}; {where}", where=error.where, fix=error.fix) from None


def _largest(values: Array) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=np.finfo(np.float32).tiny))


def _defined(expected: Array, given: Array) -> tuple[Array, Array]:
    """The rows that the original answers with numbers: a mask turned around may hide all of a row, and NaN is no answer
    to compare with."""
    if expected.shape != given.shape:
        return expected, given
    rows = np.isfinite(expected).reshape(len(expected), -1).all(axis=1)
    return expected[rows], given[rows]


def _where(
    module: nn.Module, target: str, folder: Path, inputs: Mapping[str, Array], worst: NDArray[np.intp], output: int
) -> FirstDifference | str:
    """The first layer that differs, from a few rows; from all, if those alone are answered right."""
    from trimtab.convert.first_difference import first_difference

    few = {name: values[worst] for name, values in inputs.items()}
    found = first_difference(module, target, folder, few, output=output)
    if isinstance(found, str) and len(worst) < len(next(iter(inputs.values()))):
        return first_difference(module, target, folder, inputs, output=output)
    return found


def _worst_rows(expected: Array, given: Array) -> NDArray[np.intp]:
    """At most `MOST_OPENED` rows, those that differ most; any, where the shapes differ."""
    if expected.shape != given.shape:
        return np.arange(min(MOST_OPENED, len(expected)))
    distance = np.nan_to_num(np.abs(expected - given), nan=np.inf).reshape(len(expected), -1).max(axis=1)
    return np.argsort(-distance, kind="stable")[:MOST_OPENED]


def check_batches(
    example: Mapping[str, Array], spec: Mapping[str, Any], answer: Answer, target: str, axes: Axes = FIXED
) -> None:
    """Run a converted model that has no torch module to compare with (INT8): every batch size gives probabilities.

    A row must get the same answer alone and among others. Sums may miss 1 by the rounding of each class: where softmax
    itself is quantized, probabilities are multiples of 1/255.

    Args:
        spec: as in spec.json; outputs that are not called "probabilities" have no sum, and must be finite.
        axes: of inputs that are free besides the batch; a row of another size may be answered otherwise.

    Raises:
        ConversionError: it does not.
    """
    alone: dict[str, Array] = {}
    sized = dict(lengths(example, axes))
    outputs = {str(tensor["name"]): tensor["shape"] for tensor in spec["outputs"]}
    for name, inputs in [*probes(example)[: len(BATCHES)], *sized.items()]:
        answers = _answer(answer, inputs, list(outputs), name, target)
        for output, shape in outputs.items():
            given = answers[output]
            _check_alone(given, len(next(iter(inputs.values()))), shape, name, target, output)
            if name not in sized:
                first, loose = alone.setdefault(output, given[:1]), STEPS if output not in OURS else TOLERANCE
                _compare(first, given[:1], f"{name}, first row", target, output, _largest(given), loose)


def _check_alone(given: Array, rows: int, shape: Sequence[str | int], name: str, target: str, output: str) -> None:
    """What can be said of an answer with nothing beside it."""
    wanted = (rows, *shape[1:])
    if given.ndim != len(wanted) or any(
        isinstance(size, int) and size != own for own, size in zip(given.shape, wanted, strict=True)
    ):
        raise _differs(name, target, f"{_who(output)}shape {given.shape}, expected {_plain(wanted)}")
    if output == PROBABILITIES:
        if not np.allclose(given.sum(axis=1), 1, atol=TOLERANCE + given.shape[1] / 255):
            raise _differs(name, target, f"rows sum to {given.sum(axis=1).tolist()}, not to 1")
    elif not np.isfinite(given).all():
        raise _differs(name, target, f"{_who(output)}an answer is NaN or infinite")


def _plain(shape: Sequence[str | int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _who(output: str) -> str:
    return "" if output in OURS else f"output {output!r}: "


def _answer(
    answer: Answer, inputs: Mapping[str, Array], outputs: Sequence[str], name: str, target: str
) -> Mapping[str, Array]:
    try:
        given = answer(inputs)
    except Exception as error:
        raise _differs(name, target, f"it raised {type(error).__name__}: {first_line(error)}") from None
    if list(given) != list(outputs):
        raise _differs(name, target, f"it answers {', '.join(given)}, expected {', '.join(outputs)}")
    return given


def _compare(
    expected: Array,
    given: Array,
    name: str,
    target: str,
    output: str,
    largest: float,
    tolerance: float = TOLERANCE,
) -> None:
    """Args: largest: magnitude that differences of anything but probabilities are shares of."""
    if expected.shape != given.shape:
        raise _differs(name, target, f"{_who(output)}shape {given.shape}, expected {expected.shape}")
    lost = np.isfinite(expected) & ~np.isfinite(given)
    if lost.any():
        count = int(lost.reshape(len(lost), -1).any(axis=1).sum())
        rows = f"{count} of {len(lost)} rows are not finite, where the original's are"
        raise _differs(name, target, f"{_who(output)}{rows}")
    allowed = tolerance if output == PROBABILITIES else tolerance * largest
    if not np.allclose(expected, given, atol=allowed, rtol=0, equal_nan=True):
        worst = float(np.nanmax(np.abs(expected - given)))
        among = "" if output == PROBABILITIES else f" ({allowed:.3g} is allowed)"
        what = f"{_who(output)}{'probabilities' if not among else 'answers'} differ by up to {worst:.3g}{among}"
        raise _differs(name, target, what)


def _differs(name: str, target: str, detail: str) -> ConversionError:
    return ConversionError(
        f"the converted model does not answer like the original at {name}: {detail}",
        where=target,
        fix="look for operations that fix the batch size, depend on values, or hold state between calls",
    )
