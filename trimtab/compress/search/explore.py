"""Shapes are measured before they are trained: latency does not depend on weights, training is what costs.

Each trial of the study is a shape. It is cut out of the original, what the cut does to the answers is seen at once
(mean KL divergence, no training), and its latency is measured on the runtime that will serve it, beside the uncut
original. Which of them are worth training is then read off the front of divergence and latency. When enough shapes
have been measured, a latency model spares the measuring of shapes that would be beaten even if it errs by as much as
it was seen to err.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from trimtab.compress.search.latency_model import FEATURES, LatencyModel, fit_latency
from trimtab.compress.search.shape import Shape
from trimtab.compress.search.space import Space
from trimtab.compress.search.study import Study
from trimtab.errors import CalibrationError, ConversionError, UnsupportedError


@dataclass(frozen=True)
class Probe:
    """What is known of a shape without measuring its latency.

    Attributes:
        divergence: mean KL divergence (nats) of its answers from the original's, untrained.
        features: macs, activations, parameters, layers; as shares of the original's.
    """

    divergence: float
    features: Mapping[str, float]


@dataclass(frozen=True)
class Measured:
    """Latency of a shape.

    Attributes:
        speedup: lane ("int8 on onnxruntime-cpu") → batch size → p50 of the uncut original in its fastest lane over
            p50 here, interleaved in one run.
        itself: batch size → the same ratio of the uncut original to itself in that run: a speed-up of nothing.
    """

    speedup: Mapping[str, Mapping[int, float]]
    itself: Mapping[int, float]


@dataclass(frozen=True)
class Explored:
    """A shape with what was found of it.

    Attributes:
        latency: over that of the uncut original in its fastest lane; geometric mean over batch sizes, of the fastest
            lane here.
        predicted: by the latency model before it was measured, or None.
        measured: None where the model spared the measuring; `latency` is then its prediction.
    """

    number: int
    shape: Shape
    probe: Probe
    latency: float
    predicted: float | None
    measured: Measured | None


def explore(
    space: Space,
    study: Study,
    trials: int,
    probe: Callable[[Shape], Probe],
    measure: Callable[[Shape], Measured],
    time_left: Callable[[], bool] = lambda: True,
    progress: Callable[[int, int], None] | None = None,
) -> list[Explored]:
    """Propose, probe and measure shapes until so many trials have ended; those of an earlier run count.

    Args:
        probe: cuts a shape; raises UnsupportedError where the model cannot be cut so.
        measure: its latency; what cannot be cut, converted or calibrated is noted with the trial.
        time_left: asked before each trial; when it says no, what was found so far is returned.
        progress: called with (trials ended, trials).

    Returns:
        Each shape once, those that cannot be cut left out, in the order of the trials.
    """
    while len(study.done()) < trials and time_left():
        _one(space, study, probe, measure)
        if progress is not None:
            progress(len(study.done()), trials)
    return explored(study)


def explored(study: Study) -> list[Explored]:
    """What the study holds, each shape once."""
    found: dict[str, Explored] = {}
    for trial in study.done():
        if trial.state == TrialState.COMPLETE and "features" in trial.user_attrs:
            one = _read(trial)
            found.setdefault(one.shape.key, one)
    return list(found.values())


def model_of(known: Sequence[Explored]) -> LatencyModel | None:
    """The latency model of what was measured, each graph once."""
    measured = list({_graph(one.shape, one.probe): one for one in known if one.measured is not None}.values())
    return fit_latency([one.probe.features for one in measured], [one.latency for one in measured])


def noise_of(known: Sequence[Explored]) -> float:
    """The noise floor of a search: how far nine of ten measurements of the original against itself stayed from 1."""
    off = [abs(_mean(list(one.measured.itself.values())) - 1) for one in known if one.measured and one.measured.itself]
    return float(np.quantile(off, 0.9)) if off else 0.0


def promising(known: Sequence[Explored], count: int, most: int | None = None) -> list[Explored]:
    """Shapes worth training, fastest first: the front of divergence and latency, spread along it, up to `most` of them;
    where it has fewer than `count`, those of the next fronts up to `count`. `most` is `count` where it is not given.

    Only shapes are taken that were measured to be faster than the uncut original by more than the noise floor, and of
    those that differ in the order of their steps only the one that changes the answers least. Of a front that does not
    fit whole those are taken that lie at even distances along it; not its very ends: cut to the bone, or hardly faster.
    """
    slowest = 1 / (1 + noise_of(known))
    able = [one for one in known if one.measured is not None and not one.shape.whole and one.latency < slowest]
    able.sort(key=lambda one: -one.probe.divergence)  # of one graph the last stays
    left = list({_graph(one.shape, one.probe): one for one in able}.values())
    chosen: list[Explored] = []
    room = count if most is None else most
    while left and len(chosen) < count:
        best = [one for one in left if not any(_beats(other, one) for other in left)]
        left = [one for one in left if one not in best]
        chosen += _spread(best, room - len(chosen))
        room = count
    return sorted(chosen, key=lambda one: (one.latency, one.shape.key))


def _spread(front: Sequence[Explored], count: int) -> list[Explored]:
    """So many of a front, at even distances along it, both axes counting alike: where answers change fast, more."""
    ordered = sorted(front, key=lambda one: (one.latency, one.shape.key))
    if len(ordered) <= count:
        return ordered
    points = np.array([(one.latency, one.probe.divergence) for one in ordered])
    extent = np.ptp(points, axis=0)
    steps = np.hypot(*(np.diff(points, axis=0) / np.where(extent > 0, extent, 1.0)).T)
    position = np.concatenate([[0.0], np.cumsum(steps)]) / max(float(steps.sum()), np.finfo(float).tiny)
    left = list(range(len(ordered)))
    for place in range(count):
        left.remove(min(left, key=lambda index: abs(position[index] - (place + 0.5) / count)))
    return [one for index, one in enumerate(ordered) if index not in left]


def _beats(one: Explored, other: Explored) -> bool:
    pairs = [(one.probe.divergence, other.probe.divergence), (one.latency, other.latency)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _one(space: Space, study: Study, probe: Callable[[Shape], Probe], measure: Callable[[Shape], Measured]) -> None:
    trial = study.ask()
    shape = space.suggest(trial)
    facts: dict[str, Any] = {"shape": shape.to_json()}
    known = explored(study)
    twin = next((one for one in known if one.shape.key == shape.key), None)
    if twin is not None:
        study.tell(trial, (twin.probe.divergence, twin.latency), {**facts, "twin": twin.number})
        return
    try:
        seen = probe(shape)
    except UnsupportedError as error:
        study.tell(trial, None, {**facts, "error": str(error)})
        return
    facts |= {"features": dict(seen.features)}
    if (mirror := mirror_of(shape, seen, known)) is not None:
        assert mirror.measured is not None
        study.tell(trial, (seen.divergence, mirror.latency), facts | _facts_of(mirror.measured))
        return
    model = model_of(known)
    guess = model.predict(seen.features) if model else None
    facts |= {"predicted": guess}
    if model is not None and guess is not None and _hopeless(seen.divergence, guess * (1 - model.error), known):
        study.tell(trial, (seen.divergence, guess), facts)
        return
    try:
        measured = measure(shape)
    except (UnsupportedError, ConversionError, CalibrationError) as error:
        study.tell(trial, None, {**facts, "error": str(error)})
        return
    study.tell(trial, (seen.divergence, relative_latency(measured)), facts | _facts_of(measured))


def mirror_of(shape: Shape, seen: Probe, known: Sequence[Explored]) -> Explored | None:
    """A shape that was measured and has the same graph by steps in another order: its latency is this one's, too."""
    graph = _graph(shape, seen)
    return next((one for one in known if one.measured is not None and _graph(one.shape, one.probe) == graph), None)


def _graph(shape: Shape, seen: Probe) -> tuple[object, ...]:
    """What tells graphs apart. The same cuts in another order may give another one: one may leave a group whole."""
    return shape.cuts, *sorted(seen.features.items())


def _facts_of(measured: Measured) -> dict[str, Any]:
    return {"speedup": _with_text_keys(measured.speedup), "itself": _text_keys(measured.itself)}


def _hopeless(divergence: float, at_best: float, known: Sequence[Explored]) -> bool:
    """Whether a measured shape changes the answers less and is faster than this one could be."""
    return any(
        one.measured is not None and one.probe.divergence <= divergence and one.latency < at_best for one in known
    )


def relative_latency(measured: Measured) -> float:
    """Geometric mean over batch sizes of latency over that of the uncut original, of the fastest lane."""
    return min(lane_latency(batches) for batches in measured.speedup.values())


def lane_latency(speedup: Mapping[int, float]) -> float:
    """Geometric mean over batch sizes of latency over that of the uncut original, from the speed-ups in one lane."""
    return _mean([1 / ratio for ratio in speedup.values()])


def _mean(values: Sequence[float]) -> float:
    product = 1.0
    for value in values:
        product *= value
    return float(product ** (1 / len(values)))


def _read(trial: optuna.trial.FrozenTrial) -> Explored:
    facts = trial.user_attrs
    measured = None
    if "speedup" in facts:
        speedup = {lane: _number_keys(batches) for lane, batches in facts["speedup"].items()}
        measured = Measured(speedup, _number_keys(facts["itself"]))
    divergence, latency = trial.values
    features = {name: facts["features"][name] for name in FEATURES}
    shape = Shape.from_json(facts["shape"])
    return Explored(trial.number, shape, Probe(divergence, features), latency, facts.get("predicted"), measured)


def _text_keys(value: Mapping[int, float]) -> dict[str, float]:
    return {str(batch): float(ratio) for batch, ratio in value.items()}


def _with_text_keys(value: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float]]:
    return {lane: _text_keys(batches) for lane, batches in value.items()}


def _number_keys(value: Mapping[str, float]) -> dict[int, float]:
    return {int(batch): ratio for batch, ratio in value.items()}
