"""What one request showed of a challenger, and the sum of many: agreement, largest difference, latency, errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

Kind = Literal["shadow", "canary"]
Pair = tuple[str, str]  # champion's version, challenger's version


@dataclass(frozen=True)
class Outcome:
    """One request that a challenger ran.

    Attributes:
        kind: "shadow": a copy of what the champion answered, compared with its answer; "canary": it was to answer.
        champion, challenger: versions.
        time_ns: when, nanoseconds since the epoch. rows: of the request.
        error: type of the challenger's error, None where it answered.
        agreed: rows decided as the champion did (shadow).
        difference: largest absolute difference of an output; None where shapes differ, and of a canary.
        ratio: seconds in the challenger's model over seconds in the champion's; None where it was not timed.
    """

    kind: Kind
    champion: str
    challenger: str
    request_id: str
    time_ns: int
    rows: int
    error: str | None = None
    agreed: int = 0
    difference: float | None = None
    ratio: float | None = None

    @property
    def pair(self) -> Pair:
        """The versions it is about."""
        return self.champion, self.challenger

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe; without what was not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_json`."""
        return cls(**{item.name: value[item.name] for item in fields(cls) if item.name in value})


@dataclass(frozen=True)
class Tally:
    """The sum of a pair's outcomes.

    Attributes:
        shadowed, canaried: requests of either kind, failed ones among them. failed: of both.
        errors: type of error → requests.
        rows, agreed: of shadow requests that the challenger answered.
        difference: the largest of all; None where none could be taken.
        timed, log_ratio: shadow requests with a latency ratio, and the sum of its natural logarithms.
        first_ns, last_ns: times of the first and the last outcome; 0 for none.
    """

    champion: str
    challenger: str
    shadowed: int = 0
    canaried: int = 0
    failed: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    agreed: int = 0
    difference: float | None = None
    timed: int = 0
    log_ratio: float = 0.0
    first_ns: int = 0
    last_ns: int = 0

    @property
    def requests(self) -> int:
        """Requests that the challenger ran."""
        return self.shadowed + self.canaried

    @property
    def agreement(self) -> float | None:
        """Share of compared rows that it decided as the champion did."""
        return self.agreed / self.rows if self.rows else None

    @property
    def error_rate(self) -> float | None:
        """Share of its requests that failed."""
        return self.failed / self.requests if self.requests else None

    @property
    def latency_ratio(self) -> float | None:
        """Geometric mean of its time over the champion's; 1 is as fast, 2 takes twice as long."""
        return math.exp(self.log_ratio / self.timed) if self.timed else None

    def plus(self, outcome: Outcome) -> Tally:
        """The sum with one more."""
        shadow, answered = outcome.kind == "shadow", outcome.error is None
        compared = shadow and answered
        errors = dict(self.errors)
        if outcome.error is not None:
            errors[outcome.error] = errors.get(outcome.error, 0) + 1
        differences = [value for value in (self.difference, outcome.difference) if value is not None]
        return replace(
            self,
            shadowed=self.shadowed + shadow,
            canaried=self.canaried + (not shadow),
            failed=self.failed + (not answered),
            errors=errors,
            rows=self.rows + (outcome.rows if compared else 0),
            agreed=self.agreed + (outcome.agreed if compared else 0),
            difference=max(differences, default=None),
            timed=self.timed + (outcome.ratio is not None),
            log_ratio=self.log_ratio + (math.log(outcome.ratio) if outcome.ratio is not None else 0.0),
            first_ns=self.first_ns or outcome.time_ns,
            last_ns=max(self.last_ns, outcome.time_ns),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe, with the shares that follow from the sums."""
        shares = {"agreement": self.agreement, "error_rate": self.error_rate, "latency_ratio": self.latency_ratio}
        return {**asdict(self), "requests": self.requests, **shares}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """The inverse of `to_json`."""
        return cls(**{item.name: value[item.name] for item in fields(cls) if item.name in value})


def summed(outcomes: Iterable[Outcome], tallies: Mapping[Pair, Tally] | None = None) -> dict[Pair, Tally]:
    """Outcomes added to tallies, by pair."""
    found = dict(tallies or {})
    for outcome in outcomes:
        found[outcome.pair] = found.get(outcome.pair, Tally(*outcome.pair)).plus(outcome)
    return found
