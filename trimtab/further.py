"""Outputs that a release keeps beside the one that decides: what they are like, found by asking the module.

Their shapes are part of what a release promises, so compression may not change them. An axis besides the batch is
fixed, or it is as long as a free axis of the inputs (and has its name), or it changes with one in another way: then it
has a name of its own, "<output>_<place>", and no bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trimtab.errors import ModelError
from trimtab.free_axes import FIXED, Axes, by_name, resized, size_of, sizes_to_try, traceable
from trimtab.preprocess import Ask

Array = np.ndarray
ROWS = (3, 2)  # asked: an axis that follows them is the batch


def further_of(ask: Ask, model: nn.Module, example: Mapping[str, Array], axes: Axes = FIXED) -> list[dict[str, Any]]:
    """Further outputs of a user's module, in evaluation mode; see `further_outputs`."""

    def answers(rows: Mapping[str, Array]) -> Sequence[Tensor]:
        with torch.inference_mode():
            return ask.everything(model, {name: torch.tensor(values) for name, values in rows.items()})[1:]

    return further_outputs(answers, list(ask.outputs.also), example, axes)


def further_outputs(
    ask: Callable[[Mapping[str, Array]], Sequence[Tensor]],
    names: Sequence[str],
    example: Mapping[str, Array],
    axes: Axes = FIXED,
) -> list[dict[str, Any]]:
    """Further outputs as they stand in spec.json.

    Args:
        ask: rows → the tensors of these names, in their order.
        names: what the outputs are called. example: input → array (n ≥ 1, ...), the rows that are asked.
        axes: of inputs that may change, which are asked at several sizes.

    Raises:
        ModelError: an output is not floating point or not finite, its first axis is not the batch, its number of axes
            changes, or two names are of one tensor.
    """
    if not names:
        return []
    whole, fewer = (_rows(traceable(example, axes), count) for count in ROWS)
    asked, sizes = [whole, fewer], [{name: size_of(whole, axes, name) for name in by_name(axes)}] * 2
    for name, axis in by_name(axes).items():
        for size in sizes_to_try(axis, sizes[0][name]).values():
            asked.append(resized(whole, axes, name, size))
            sizes.append({**sizes[0], name: size})
    answers = [list(ask(rows)) for rows in asked]
    _refuse_twice(names, answers[0])
    rows = [len(next(iter(one.values()))) for one in asked]
    return [_described(name, [answer[place] for answer in answers], rows, sizes) for place, name in enumerate(names)]


def _rows(example: Mapping[str, Array], count: int) -> dict[str, Array]:
    return {name: values[np.arange(count) % len(values)] for name, values in example.items()}


def _described(
    name: str, seen: Sequence[Tensor], rows: Sequence[int], sizes: Sequence[Mapping[str, int]]
) -> dict[str, Any]:
    for answer, count in zip(seen, rows, strict=True):
        shape = tuple(int(size) for size in answer.shape)
        if not answer.is_floating_point():
            raise _unfit(name, f"is {answer.dtype}", "keep floating-point outputs, and derive others from them")
        if not shape or shape[0] != count:
            raise _unfit(name, f"has shape {shape} for {count} rows", "its first axis must be the batch")
        if len(shape) != seen[0].ndim:
            raise _unfit(name, f"has {seen[0].ndim} axes, and {len(shape)} at another size", "give it one rank")
        if not torch.isfinite(answer).all():
            raise _unfit(name, "holds NaN or infinity for training rows", "the service answers no such numbers")
    sized = [_axis(name, place, [int(one.shape[place]) for one in seen], sizes) for place in range(1, seen[0].ndim)]
    return {"name": name, "dtype": "float32", "shape": ["batch", *sized]}


def _axis(name: str, place: int, found: Sequence[int], sizes: Sequence[Mapping[str, int]]) -> str | int:
    if all(one == other for one, other in pairwise(found)):
        return found[0]
    for axis in sizes[0]:
        if all(size == at[axis] for size, at in zip(found, sizes, strict=True)):
            return axis
    return f"{name}_{place}"


def _refuse_twice(names: Sequence[str], answers: Sequence[Tensor]) -> None:
    known: dict[int, str] = {}
    for name, answer in zip(names, answers, strict=True):
        if (other := known.setdefault(id(answer), name)) != name:
            raise _unfit(name, f"is the tensor that {other} is", "keep it under one name")


def _unfit(name: str, what: str, fix: str) -> ModelError:
    return ModelError(what, where=f"model.also.{name}", fix=fix)
