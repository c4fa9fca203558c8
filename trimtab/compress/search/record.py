"""What a search leaves behind: every shape that was seen, and how far those that were trained came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.candidate import Json
from trimtab.compress.search.course import Way
from trimtab.compress.search.explore import Explored, Measured, Probe, lane_latency
from trimtab.compress.search.halving import Runner
from trimtab.compress.search.shape import Shape
from trimtab.task import Metric


@dataclass(frozen=True)
class Won:
    """The fastest lane of a target for a shape. `latency`: over that of the uncut original in its fastest lane."""

    precision: str
    latency: float


@dataclass(frozen=True)
class SearchRecord:
    """A search as it is shown.

    Attributes:
        seen: shapes of the exploration. ways: those of them that were trained, and the control if there was one.
        noise_floor: gains below it are none. error: relative error of the latency model for nine shapes in ten; None:
            too few were measured for one. drops: accuracies that were allowed to be lost.
        accuracy: of the original on the validation split; another score where `metric` is another.
    """

    seen: tuple[Explored, ...]
    ways: tuple[Way, ...]
    noise_floor: float
    error: float | None
    drops: tuple[float, ...]
    accuracy: float
    metric: Metric = "accuracy"

    @classmethod
    def of(cls, found: Mapping[str, Any], ways: Sequence[Way], drops: Sequence[float]) -> SearchRecord:
        """From what the task of the exploration returned, and the ways as halving left them."""
        model = found["latency_model"]
        seen = tuple(trial_from_json(trial) for trial in found["trials"])
        error = None if model is None else float(model["error"])
        score, metric = float(found["accuracy"]), found.get("metric", "accuracy")
        return cls(seen, tuple(ways), float(found["noise_floor"]), error, tuple(drops), score, metric)

    def trails(self) -> list[dict[str, Json]]:
        """Each way as plain values: latency before training, drop after each rung, epochs of each."""
        return [
            {
                "shape": way.runner.key,
                "latency": way.runner.latency,
                "drops": list(way.runner.drops),
                "epochs": list(way.runner.epochs),
                "steps": [step.parameters["label"] for step in way.steps],
            }
            for way in self.ways
        ]

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe: what the report's JSON says of the search."""
        return {
            "noise_floor": self.noise_floor,
            "latency_model_error": self.error,
            "drops": list(self.drops),
            "trials": [trial_to_json(one) for one in self.seen],
            "trained": self.trails(),
        }


def won_by_target(measured: Measured) -> dict[str, Won]:
    """Target → the lane that was fastest there; lanes are named "<precision> on <target>"."""
    found: dict[str, Won] = {}
    for lane, speedup in measured.speedup.items():
        precision, _, target = lane.rpartition(" on ")
        own = Won(precision, lane_latency(speedup))
        if target not in found or own.latency < found[target].latency:
            found[target] = own
    return found


def trial_to_json(one: Explored) -> dict[str, Json]:
    """A shape of the exploration as `search.json` has it."""
    measured = one.measured
    return {
        "trial": one.number,
        "shape": one.shape.to_json(),
        "label": one.shape.label,
        "divergence": one.probe.divergence,
        "features": dict(one.probe.features),
        "latency": one.latency,
        "predicted": one.predicted,
        "measured": measured is not None,
        "speedup": measured and {lane: _texts(batches) for lane, batches in measured.speedup.items()},
        "itself": measured and _texts(measured.itself),
    }


def trial_from_json(value: Mapping[str, Any]) -> Explored:
    """The inverse of `trial_to_json`."""
    measured = None
    if value["measured"]:
        measured = Measured({lane: _numbers(b) for lane, b in value["speedup"].items()}, _numbers(value["itself"]))
    probe = Probe(value["divergence"], dict(value["features"]))
    shape = Shape.from_json(value["shape"])
    return Explored(value["trial"], shape, probe, value["latency"], value["predicted"], measured)


def ways_of(found: Mapping[str, Any], round_to: int, seed: int) -> list[Way]:
    """The shapes that the exploration found promising, nothing trained yet."""
    shapes = [(Shape.from_json(one["shape"]), float(one["latency"])) for one in found["shapes"]]
    return [Way(Runner(shape.key, latency, (), ()), shape.steps(round_to, seed)) for shape, latency in shapes]


def _texts(value: Mapping[int, float]) -> dict[str, float]:
    return {str(batch): float(ratio) for batch, ratio in value.items()}


def _numbers(value: Mapping[str, float]) -> dict[int, float]:
    return {int(batch): float(ratio) for batch, ratio in value.items()}
