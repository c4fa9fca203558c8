"""What the gate says: one check a line of the budget, and the decision they make together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from trimtab.candidate import Interval, Json

Answer = Literal["pass", "fail", "undecided"]
ROUNDING = 1e-12  # a limit that is met exactly must not fail by the last bit


@dataclass(frozen=True)
class Check:
    """One line of the budget.

    Attributes:
        name: what is checked. limit: what the recipe allows. measured: the point estimate.
        interval: of the measurement, where the interval decides; its lower or upper end is compared with the limit.
        passed: True, False, or None where the data are too few to say.
        reason: one sentence with the figures.
    """

    name: str
    limit: float
    measured: float
    interval: Interval | None
    passed: bool | None
    reason: str


@dataclass(frozen=True)
class Decision:
    """What the gate says.

    Attributes:
        answer: "fail" if any check failed, else "undecided" if any is, else "pass".
        needed_rows: rows needed *besides* those measured, if the rates stay as they are, so that every undecided
            check passes; None when nothing is undecided, or no number of rows would do.
    """

    answer: Answer
    checks: tuple[Check, ...]
    needed_rows: int | None

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Decision:
        """The inverse of `to_json`."""
        checks = tuple(
            Check(**{**one, "interval": None if one["interval"] is None else Interval(**one["interval"])})
            for one in value["checks"]
        )
        return cls(value["answer"], checks, value["needed_rows"])
