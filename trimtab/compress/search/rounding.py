"""What channel counts are rounded to: measured on the model's own layers, not assumed.

A runtime that computes channels in blocks of 16 takes as long for 24 as for 32, so that what is cut below a multiple of
16 is lost accuracy and no time. All groups of the model that are wide enough are cut to widths 0, 8, 12 and 16 channels
above a multiple of 16, and measured side by side. Worked example: latencies 0.50, 0.98, 0.99, 1.00 at these widths are
those of blocks of 16; 0.50, 0.75, 1.00, 1.00 of blocks of 8; 0.50, 0.75, 0.87, 1.00 of blocks of 4 or less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trimtab.candidate import Json
from trimtab.compress.groups import Group
from trimtab.compress.search.grid import ROUND_TO
from trimtab.compress.search.shape import Shape
from trimtab.recipe.schema import Compress

BLOCK = 16
OFFSETS = (0, 8, 12, 16)  # channels above a multiple of 16
LEAST_CHANNELS = 2 * BLOCK  # of a group that is measured on: one block below the width it has


@dataclass(frozen=True)
class Rounding:
    """What channel counts are kept multiples of, and why.

    Attributes:
        latency: target → channels above a multiple of 16 → latency over the uncut original's; empty: not measured.
        noise_floor: of these latencies; None: not measured.
    """

    round_to: int
    reason: str
    latency: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    noise_floor: float | None = None

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        latency = {target: {str(at): value for at, value in found.items()} for target, found in self.latency.items()}
        return {**asdict(self), "latency": latency}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rounding:
        """The inverse of `to_json`."""
        latency = {target: {int(at): float(v) for at, v in found.items()} for target, found in value["latency"].items()}
        return cls(int(value["round_to"]), value["reason"], latency, value["noise_floor"])


def asked(compress: Compress) -> Rounding | None:
    """What needs no measuring: the recipe's own, or none where no channels are removed; None: it is to be measured."""
    if compress.prune is None:
        return Rounding(1, "no channels are removed")
    if compress.prune.round_to is not None:
        return Rounding(compress.prune.round_to, "the recipe's")
    return None


def shapes_to_measure(groups: Sequence[Group]) -> dict[int, Shape]:
    """Channels above a multiple of 16 → the shape whose wide groups all have that width; empty where none is wide.

    Of a group of 64 the widths are 32, 40, 44 and 48: about half, where a search cuts. The shapes are to be cut with
    `round_to` 1.
    """
    wide = [one for one in groups if one.can_be_cut and one.blocks == 1 and one.channels >= LEAST_CHANNELS]
    if not wide:
        return {}
    base = {one.root: BLOCK * (one.channels // LEAST_CHANNELS) for one in wide}
    return {offset: Shape(ratios=_ratios(wide, base, offset)) for offset in OFFSETS}


def _ratios(wide: Sequence[Group], base: Mapping[str, int], offset: int) -> dict[str, float]:
    """Shares to remove; a group that is at that width already is not named."""
    left = {one.root: 1 - (base[one.root] + offset) / one.channels for one in wide}
    return {root: ratio for root, ratio in left.items() if ratio > 0}


def decide(latency: Mapping[str, Mapping[int, float]], noise_floor: float) -> Rounding:
    """From the latencies at the four widths, of the first target: the fastest, which a release is most likely to take.

    16, where a multiple of 8 in between costs more than halfway to the next 16; else 8, where one of 4 costs more than
    halfway to the next 8, or where no width is faster or slower than that by more than the noise; else 4.
    """
    target = next(iter(latency))
    at, above = latency[target], 1 + noise_floor
    eights, fours = at[8] / _halfway(at[0], at[16]), at[12] / _halfway(at[8], at[16])

    def found(round_to: int, reason: str) -> Rounding:
        return Rounding(round_to, f"on {target} {reason}", latency, noise_floor)

    if eights > above:
        return found(16, f"8 channels above a multiple of 16 take {eights:.2f} times what is halfway to the next")
    if fours > above:
        return found(8, f"4 channels above a multiple of 8 take {fours:.2f} times what is halfway to the next")
    if at[12] * above < at[16]:
        return found(4, f"4 channels fewer take {at[12] / at[16]:.2f} of the time")
    return found(ROUND_TO, f"no width is better than another by more than the noise of {100 * noise_floor:.1f} %")


def _halfway(one: float, other: float) -> float:
    return (one + other) / 2
