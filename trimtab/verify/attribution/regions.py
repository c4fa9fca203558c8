"""The parts of an input that are attributed: patches of an image, columns of a table, steps of a sequence.

By the shape of one row: (channels, height, width) is an image and cut into squares; (steps, features) a sequence and
cut into steps; (columns,) a table, or a sequence of tokens, and cut into its values. What is taken away is replaced by
what is usual in the training rows: of floats the mean (of an image: of its channel; of a sequence: of its feature), of
integers and bools the most frequent value at the same place, since a mean of codes is none of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from trimtab.errors import UnsupportedError

Array = np.ndarray
PATCHES = 8  # along the shorter side of an image, where the recipe names no size
MOST_STEPS = 64  # of a sequence; longer ones are cut into so many runs of steps
MOST_COLUMNS = 1024  # of a table; of wider ones neighbours are taken together
COUNTED = 2000  # training rows among which the most frequent value is looked for


@dataclass(frozen=True)
class Region:
    """A part of one input. `place` indexes one row of it, without the batch axis."""

    input: str
    name: str
    place: tuple[slice, ...]


@dataclass(frozen=True)
class Layout:
    """All parts of a model's inputs, in order.

    Attributes:
        grid: rows and columns of patches where the only input is an image, else None.
        side: of a patch in pixels, or None.
    """

    regions: tuple[Region, ...]
    grid: tuple[int, int] | None = None
    side: int | None = None


def divide(inputs: Mapping[str, Array], patch: int | None = None) -> Layout:
    """Cut inputs into regions that cover every value once.

    Args:
        inputs: name → array (n, ...). patch: side of an image's squares in pixels; None: an eighth of its shorter side.

    Raises:
        UnsupportedError: an input with more axes than an image has.
    """
    found = [region for name, values in inputs.items() for region in _of_one(name, values.shape[1:], patch)]
    only = next(iter(inputs.values()))
    if len(inputs) > 1 or only.ndim != 4:
        return Layout(tuple(found))
    side = _side(only.shape[1:], patch)
    return Layout(tuple(found), (math.ceil(only.shape[2] / side), math.ceil(only.shape[3] / side)), side)


def usual(training: Mapping[str, Array]) -> dict[str, Array]:
    """What replaces a part that is taken away: name → one row, of the input's dtype.

    Args:
        training: name → array (n, ...), the training rows.
    """
    return {name: _usual(values) for name, values in training.items()}


def _of_one(name: str, shape: tuple[int, ...], patch: int | None) -> Iterator[Region]:
    if len(shape) > 3:
        raise UnsupportedError(
            f"a row of shape {shape} is no image, sequence or table",
            where=f"verify.explain: input {name!r}",
            fix="set verify.explain to null",
        )
    if not shape:
        yield Region(name, name, ())
    elif len(shape) == 3:
        side = _side(shape, patch)
        for top in range(0, shape[1], side):
            for left in range(0, shape[2], side):
                words = f"rows {top}–{top + side - 1}, columns {left}–{left + side - 1}"
                yield Region(name, words, (slice(None), slice(top, top + side), slice(left, left + side)))
    else:
        word, most = ("column", MOST_COLUMNS) if len(shape) == 1 else ("step", MOST_STEPS)
        width = math.ceil(shape[0] / most)
        for start in range(0, shape[0], width):
            end = min(start + width, shape[0])
            words = f"{word} {start}" if end == start + 1 else f"{word}s {start}–{end - 1}"
            yield Region(name, words, (slice(start, end),))


def _side(shape: tuple[int, ...], patch: int | None) -> int:
    return patch or math.ceil(min(shape[1:]) / PATCHES)


def _usual(values: Array) -> Array:
    if values.dtype.kind != "f":
        few = values[np.linspace(0, len(values) - 1, min(COUNTED, len(values))).astype(int)]
        return np.apply_along_axis(_most_frequent, 0, few).astype(values.dtype)
    kept = {4: (0, 2, 3), 3: (0, 1)}.get(values.ndim, (0,))
    mean = values.mean(axis=kept, keepdims=True, dtype=np.float64)[0]
    return np.broadcast_to(mean, values.shape[1:]).astype(values.dtype)


def _most_frequent(column: Array) -> Array:
    found, counts = np.unique(column, return_counts=True)
    chosen: Array = found[counts.argmax()]
    return chosen
