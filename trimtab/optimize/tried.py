"""What came of a trial, and which trial is chosen."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trimtab.candidate import Json

State = Literal["complete", "stopped", "failed"]


@dataclass(frozen=True)
class Speed:
    """Latency of an untrained architecture as it would be served, on the fastest target, at the first batch size.

    Attributes:
        p50_s: median, seconds a call.
        share: the same as a share of what the recipe's own architecture took, eager, in the same rounds: a busy
            machine slows both down. This is what is searched on.
    """

    p50_s: float
    share: float
    target: str


@dataclass(frozen=True)
class Tried:
    """A settled trial.

    Attributes:
        number: from 0, in the order they were made.
        values: key of the space → value.
        state: "complete"; "stopped", hopeless after some epochs; "failed", with the reason.
        accuracy, loss: on validation, in the epoch whose weights were kept; None if there was no epoch.
        curve: validation accuracy after each epoch.
        seconds: what it took.
        speed: where latency was measured.
        candidate: id of the original it trained, if it is complete.
    """

    number: int
    values: Mapping[str, Json]
    state: State
    accuracy: float | None = None
    loss: float | None = None
    curve: tuple[float, ...] = ()
    seconds: float = 0.0
    speed: Speed | None = None
    candidate: str | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "curve": list(self.curve)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Tried:
        """The inverse of `to_json`."""
        known = {key: value[key] for key in cls.__dataclass_fields__}
        speed = None if value["speed"] is None else Speed(**value["speed"])
        return cls(**{**known, "curve": tuple(value["curve"]), "speed": speed})

    def objectives(self) -> list[float] | None:
        """What Optuna is told of a complete trial: accuracy, and latency where it was measured."""
        if self.state != "complete":
            return None
        return [_accuracy(self), *([] if self.speed is None else [self.speed.share])]

    def in_words(self) -> str:
        """One line for a log."""
        words = [f"trial {self.number}", self.state]
        if self.accuracy is not None:
            words.append(f"accuracy {self.accuracy:.2%} after {len(self.curve)} epochs")
        if self.speed is not None:
            words.append(f"p50 {self.speed.p50_s * 1000:.3f} ms on {self.speed.target}")
        values = ", ".join(f"{key} {_short(value)}" for key, value in self.values.items())
        why = f" ({self.reason})" if self.reason else ""
        return f"{', '.join(words)}, {self.seconds:.1f} s: {values}{why}"


def choose(tried: Sequence[Tried], rows: int) -> Tried | None:
    """The trial whose values the original gets; None if none is complete.

    By accuracy alone: the most accurate, of equals the one with the lowest validation loss. With latency: the fastest
    whose accuracy is within one standard error of the best one's (the one-standard-error rule of Breiman et al. 1984,
    *Classification and Regression Trees*, 3.4.3); so much accuracy is not told apart on these rows anyway.

    Args:
        rows: of validation. The standard error is that of a share of so many rows, with one hit and one miss added,
            so that it is not zero where no row was missed.
    """
    complete = [one for one in tried if one.state == "complete"]
    if not complete:
        return None
    best = min(complete, key=_by_accuracy)
    if best.speed is None:
        return best
    least = _accuracy(best) - standard_error(_accuracy(best), rows)
    return min((one for one in complete if _accuracy(one) >= least), key=lambda one: (_share(one), *_by_accuracy(one)))


def front(tried: Sequence[Tried]) -> list[Tried]:
    """Complete trials than which none is both as accurate and as fast and better in one; fastest first."""
    complete = [one for one in tried if one.state == "complete" and one.speed is not None]

    def beats(other: Tried, one: Tried) -> bool:
        as_good = _accuracy(other) >= _accuracy(one) and _share(other) <= _share(one)
        return as_good and (_accuracy(other) > _accuracy(one) or _share(other) < _share(one))

    kept = [one for one in complete if not any(beats(other, one) for other in complete)]
    return sorted(kept, key=lambda one: (_share(one), one.number))


def dominated(tried: Sequence[Tried], share: float, curve: Sequence[float], least_trials: int) -> bool:
    """Whether a trial in progress is below the median of the trials that are no slower: its best accuracy so far
    against theirs after as many epochs. Optuna prunes on one objective only.

    Args:
        share: the trial's `Speed.share`. curve: its accuracies so far. least_trials: fewer to compare with say nothing.
    """
    epoch = len(curve)
    theirs = sorted(
        one.curve[epoch - 1]
        for one in tried
        if one.state == "complete" and len(one.curve) >= epoch and one.speed is not None and one.speed.share <= share
    )
    return len(theirs) >= max(least_trials, 1) and max(curve) < theirs[(len(theirs) - 1) // 2]


def standard_error(accuracy: float, rows: int) -> float:
    """Of a share of `rows`, with one hit and one miss added."""
    share = (accuracy * rows + 1) / (rows + 2)
    return math.sqrt(share * (1 - share) / (rows + 2))


def table(tried: Sequence[Tried], chosen: Tried | None) -> str:
    """CSV, a line a trial."""
    keys = list(dict.fromkeys(key for one in tried for key in one.values))
    on_front = front(tried)
    rows: list[dict[str, Any]] = [
        {
            "trial": one.number,
            "state": one.state,
            "accuracy": one.accuracy,
            "loss": one.loss,
            "epochs": len(one.curve),
            "seconds": round(one.seconds, 3),
            "p50_ms": None if one.speed is None else one.speed.p50_s * 1000,
            "share_of_eager": None if one.speed is None else one.speed.share,
            "target": None if one.speed is None else one.speed.target,
            "on_front": one in on_front if one.speed is not None else None,
            "chosen": one == chosen,
            **{key: _short(one.values.get(key)) for key in keys},
            "candidate": one.candidate,
            "reason": one.reason,
        }
        for one in tried
    ]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else ["trial"])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _accuracy(one: Tried) -> float:
    assert one.accuracy is not None
    return one.accuracy


def _share(one: Tried) -> float:
    assert one.speed is not None
    return one.speed.share


def _by_accuracy(one: Tried) -> tuple[float, float, int]:
    assert one.loss is not None
    return -_accuracy(one), one.loss, one.number


def _short(value: Json) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
