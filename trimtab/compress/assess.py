"""How good a build is on the validation split: accuracy and measured latency, interleaved with the eager original."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trimtab import runtime
from trimtab.candidate import Candidate, Converted
from trimtab.compress.opening import open_torch
from trimtab.compress.search import Point
from trimtab.convert.of_recipe import deployed_of, spec_for
from trimtab.data import Array
from trimtab.errors import StateError
from trimtab.runtime.eager import Predictor as Eager
from trimtab.task import CLASSIFICATION, Task
from trimtab.workbench import Workbench

BATCH = 256
BASELINE = "baseline"
SHAPING = frozenset({"prune", "shorten", "student"})  # methods after which a graph is another


def eager(bench: Workbench, candidate: Candidate) -> Eager:
    """The candidate's torch module as a Predictor: pre-processing and softmax included."""
    module = deployed_of(bench, open_torch(bench, candidate))
    return Eager(module, spec_for(bench), bench.recipe.measure.threads)


def open_build(bench: Workbench, build: Converted) -> Any:
    """The Predictor of a build on its target."""
    return runtime.load(build.target, bench.target_folder(build.candidate, build.target), bench.recipe.measure.threads)


def parent_of(bench: Workbench, candidate: Candidate) -> Candidate:
    """The stored candidate that a quantized one was made from.

    Raises:
        StateError: it is gone from the store.
    """
    found = bench.stored(Candidate(candidate.lineage[:-1], candidate.inputs).id)
    if found is None:
        raise StateError(f"the parent of {candidate.label} is gone from the store", where=str(bench.settings.store))
    return found


def original_bytes(bench: Workbench, original: str) -> int:
    """Size of the original's FP32 weights: what every size ratio is relative to."""
    return (bench.folder(original) / "weights.safetensors").stat().st_size


def build_name(build: Converted) -> str:
    """Key of a build in tables of measurements."""
    return f"{build.candidate}@{build.target}"


def predicted(predictor: Any, inputs: Mapping[str, Array]) -> Array:
    """Probabilities (n, classes), or numbers (n, k), for all rows, in batches: the output that decides."""
    n = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, n, BATCH):
        answer = predictor.predict({name: values[start : start + BATCH] for name, values in inputs.items()})
        parts.append(next(iter(answer.values())))
    return np.concatenate(parts)


def validated(bench: Workbench, candidate: Candidate) -> float:
    """The score of a candidate's torch module on validation; its accuracy is known from its training."""
    if bench.task.by_accuracy:
        return float(candidate.facts["validation_accuracy"])
    validation = bench.splits["validation"]
    return bench.task.score(predicted(eager(bench, candidate), validation.inputs), validation.labels)


def points(
    bench: Workbench,
    builds: Sequence[Converted],
    candidates: Mapping[str, Candidate],
    hits: Mapping[str, float],
    timings: Mapping[str, Mapping[int, Any]],
    original_size: int,
    noise: float = 0.0,
    memory: Mapping[str, float] | None = None,
    loading: Mapping[str, float] | None = None,
    worst: Mapping[str, tuple[str, float]] | None = None,
) -> list[Point]:
    """One point a build from what was measured.

    Args:
        hits: build name (or "baseline") → accuracy, or another score, on validation.
        timings: build name → batch size → Latency.
        original_size: bytes of the original's FP32 weights.
        noise: noise floor at the first batch size. memory: build name → peak in MiB.
        loading: build name → milliseconds to the first answer.
        worst: build name → its slice that lost most, and how much.
    """
    first = bench.recipe.measure.batch_sizes[0]
    whole = {
        (build.target, build.precision): timings[build_name(build)][first].speedup
        for build in builds
        if not _cut(candidates[build.candidate])
    }

    def gain(build: Converted) -> float | None:
        before = whole.get((build.target, build.precision))
        if before is None or not _cut(candidates[build.candidate]):
            return None
        return float(timings[build_name(build)][first].speedup / before)

    return [
        Point(
            candidate=build.candidate,
            target=build.target,
            label=candidates[build.candidate].label,
            accuracy=hits[build_name(build)],
            drop=bench.task.drop(hits[BASELINE], hits[build_name(build)]),
            speedup={batch: latency.speedup for batch, latency in timings[build_name(build)].items()},
            size_ratio=original_size / build.size_bytes,
            p99_ms=timings[build_name(build)][first].p99_s * 1000,
            noise=noise,
            gain=gain(build),
            memory_mb=(memory or {}).get(build_name(build)),
            load_ms=(loading or {}).get(build_name(build)),
            slice_drop=(worst or {}).get(build_name(build), ("", None))[1],
            slice_name=(worst or {}).get(build_name(build), ("", None))[0],
        )
        for build in builds
    ]


def _cut(candidate: Candidate) -> bool:
    """Whether its graph is another than the original's; training and a rewriting of the graph leave that as it is."""
    return any(step.method in SHAPING for step in candidate.lineage)


def reference(candidates: Sequence[Candidate], hits: Mapping[str, float], wanted: str) -> str:
    """Name of what drops are counted from: "baseline", the original, or a build of the control, the uncut original
    trained on.

    Where no candidate was trained on, nothing has unlearned the validation rows, and it is the original's in any case.

    Args:
        hits: build name (or "baseline") → accuracy. wanted: "original" or "control".

    Raises:
        StateError: there is no control in FP32 among what was measured.
    """
    trained = any(step.method == "distil" for candidate in candidates for step in candidate.lineage)
    if wanted == "original" or not trained:
        return BASELINE
    controls = [c.id for c in candidates if c.lineage[1:] and all(step.method == "distil" for step in c.lineage[1:])]
    found = [name for name in hits if name.partition("@")[0] in controls]
    if not found:
        raise StateError(
            "no control was measured: the uncut original, trained on",
            where="compress.search.reference",
            fix="switch compress.distil on, or set it to original",
        )
    return max(found, key=lambda name: hits[name])


def judged(
    baseline: Any,
    predictors: Mapping[str, Any],
    inputs: Mapping[str, Array],
    labels: Array,
    progress: Callable[[int, int, str], None],
    task: Task = CLASSIFICATION,
) -> tuple[dict[str, float], dict[str, Array]]:
    """Accuracy, or the task's score, of every predictor and of the baseline on the same rows; and who answers which
    rows right, name → bool (n,): of a classifier only.
    """
    everyone = {BASELINE: baseline, **predictors}
    scores, right = dict[str, float](), dict[str, Array]()
    for index, (name, predictor) in enumerate(everyone.items()):
        answers = predicted(predictor, inputs)
        scores[name] = task.score(answers, labels)
        if not task.regression:
            right[name] = answers.argmax(1) == labels
        progress(index + 1, len(everyone), f"{task.name} on validation")
    return scores, right
