"""What stage 4 measures on each finalist: accuracy by split and slice, parity, latency, size; and the gate's answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from prefect import task

from tasks.caching import JSON_RESULT, content_key
from tasks.progress import Progress
from tasks.reasons import Reasons
from tasks.rivalry import against_champion
from trimtab import runtime
from trimtab.candidate import Candidate, Converted
from trimtab.compress.assess import build_name, eager, open_build, original_bytes, parent_of, predicted
from trimtab.convert.first_difference import first_difference
from trimtab.data import Array
from trimtab.verify.accuracy import Paired, paired
from trimtab.verify.class_numbers import paired_classes
from trimtab.verify.confusion import counts
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import decide
from trimtab.verify.latency import BASELINE, Timings, measure
from trimtab.verify.numbers import PairedNumbers, paired_numbers
from trimtab.verify.parity import Parity, compare
from trimtab.verify.reliability import compare_trust
from trimtab.verify.seen import Seen, has_seen
from trimtab.verify.slices import Slices, compare_own_slices, compare_slices
from trimtab.verify.throughput import throughput
from trimtab.watch import Watch
from trimtab.workbench import Workbench

GATE, VALIDATION, TODAY = "gate", "validation", "today"
SCATTERED = 500  # rows in the picture of a regression


@task(
    name="verify", task_run_name="verify the finalists on the gate", cache_key_fn=content_key("verify"), **JSON_RESULT
)
def measure_finalists(
    bench: Workbench,
    original: dict[str, Any],
    candidates: list[dict[str, Any]],
    builds: list[dict[str, Any]],
    champion: int | None,
) -> dict[str, Any]:
    """Evidence and decision for each finalist; intervals are corrected for their number."""
    parsed = [Converted.from_json(value) for value in builds]
    made = {value["id"]: Candidate.from_json(value) for value in candidates}
    confidence = 1 - (1 - bench.recipe.verify.confidence) / len(parsed)
    baseline = eager(bench, Candidate.from_json(original))
    predictors = {build_name(build): open_build(bench, build) for build in parsed}
    with bench.measuring(), bench.stopwatch.on("measuring"), Progress("verifying on the gate") as progress:
        gate, settings = bench.splits[GATE], bench.recipe.measure
        timings = measure(
            baseline,
            predictors,
            gate.inputs,
            settings,
            lambda done, total: progress(done, total, "rounds of latency"),
        )
        everyone = {BASELINE: baseline, **predictors}
        rates = throughput(everyone, gate.inputs, bench.recipe.serving.threads, settings.batch_sizes[0])
        rivals = _champion_answers(bench, champion)
        reasons = Reasons(bench, Candidate.from_json(original), baseline)
        answers = _answers(bench, baseline)
        size = original_bytes(bench, original["id"])
        costs = against_champion(bench, champion, parsed, predictors, size)
        shown = _confusion if not bench.task.regression else _scatter
        pictures = {"baseline": shown(bench, answers)}
        found = []
        for build in parsed:
            given = _answers(bench, predictors[build_name(build)])
            pictures[build_name(build)] = shown(bench, given)
            predictor = predictors[build_name(build)]
            parity = _parity(bench, made[build.candidate], build, predictor, baseline, confidence)
            evidence = replace(
                _evidence(build, parity, timings, Hits(bench, given, answers, rivals), size, confidence),
                trust=None
                if bench.task.regression
                else compare_trust(answers[GATE], given[GATE], gate.labels, confidence),
                attributions=reasons.of(build, made[build.candidate], predictors[build_name(build)], confidence),
                throughput={"original": rates[BASELINE], "candidate": rates[build_name(build)]},
                rival=costs.get(build_name(build)),
            )
            if bench.recompress is not None:  # it is to cost less, not to know more
                evidence = replace(evidence, must_improve=None)
            decision = decide(evidence, bench.recipe.budget, confidence)
            found.append({"build": build.to_json(), "evidence": evidence.to_json(), "decision": decision.to_json()})
        if bench.task.regression:
            return {"finalists": found, "timings": timings.to_json(), "scatter": pictures}
        seen = _seen(bench, baseline, answers, bench.recipe.verify.confidence)
    return {"finalists": found, "timings": timings.to_json(), "confusion": pictures, "seen": seen.to_json()}


@dataclass(frozen=True)
class Hits:
    """Split → what is answered there by the candidate, its original and the champion: probabilities, or numbers."""

    bench: Workbench
    own: Mapping[str, Array]
    base: Mapping[str, Array]
    rivals: Mapping[str, Array] | None

    def against_original(self, confidence: float) -> dict[str, Paired | PairedNumbers]:
        """On the gate split alone: that is what the budget speaks of."""
        return {GATE: self._paired(GATE, self.base, confidence)}

    def against_champion(self, confidence: float) -> dict[str, Paired | PairedNumbers] | None:
        """On every split; None where nothing serves yet."""
        if self.rivals is None:
            return None
        return {name: self._paired(name, self.rivals, confidence) for name in self.own}

    def accuracy(self, confidence: float) -> Paired | None:
        """On the gate split, of a classifier that another metric decides on."""
        task = self.bench.task
        return None if task.regression or task.by_accuracy else self._counted(GATE, self.base, confidence)

    def by_slice(self, confidence: float) -> Slices | None:
        """Against the original on each class and each slice of the recipe's, on the gate split."""
        labels, bench = self.bench.splits[GATE].labels, self.bench
        if bench.task.regression:

            def pair(mask: Array, each: float) -> PairedNumbers:
                original, own = self.base[GATE][mask], self.own[GATE][mask]
                return paired_numbers(bench.task.metric, original, own, labels[mask], each, "a slice of the gate")

            return compare_own_slices(bench.slices, pair, len(labels), confidence)
        original, own = _right(self.base[GATE], labels), _right(self.own[GATE], labels)
        return compare_slices(original, own, labels, bench.class_names, bench.slices, confidence)

    def _paired(self, name: str, other: Mapping[str, Array], confidence: float) -> Paired | PairedNumbers:
        labels, task = self.bench.splits[name].labels, self.bench.task
        if task.regression:
            return paired_numbers(task.metric, other[name], self.own[name], labels, confidence, f"split {name}")
        if not task.by_accuracy:
            return paired_classes(task.metric, other[name], self.own[name], labels, confidence, f"split {name}")
        return self._counted(name, other, confidence)

    def _counted(self, name: str, other: Mapping[str, Array], confidence: float) -> Paired:
        labels = self.bench.splits[name].labels
        return paired(_right(other[name], labels), _right(self.own[name], labels), confidence)


def _evidence(
    build: Converted, parity: Parity, timings: Timings, hits: Hits, original_size: int, confidence: float
) -> Evidence:
    champion = hits.against_champion(confidence)
    return Evidence(
        paired=hits.against_original(confidence),
        versus_champion=champion,
        parity=parity,
        latency=timings.by_name[build_name(build)],
        baseline_latency=timings.by_name["baseline"],
        noise_floor=timings.noise_floor,
        size_bytes=build.size_bytes,
        original_size_bytes=original_size,
        slices=hits.by_slice(confidence),
        must_improve=TODAY if champion is not None and TODAY in champion else None,
        accuracy=hits.accuracy(confidence),
    )


def _parity(
    bench: Workbench, candidate: Candidate, build: Converted, predictor: Any, original: Any, confidence: float
) -> Parity:
    """Against its own torch module; a rewritten graph against the module it was made from."""
    inputs, settings, exact = bench.splits[GATE].inputs, bench.recipe.verify, build.precision == "fp32"
    reference = eager(bench, candidate if exact else parent_of(bench, candidate))
    folder = bench.target_folder(build.candidate, build.target)
    return compare(
        reference,
        predictor,
        inputs,
        settings.atol if exact else None,
        confidence,
        batch_invariant=build.precision != "int8-dynamic",  # which scales its activations by the whole batch
        tolerance=settings.tolerance if bench.task.regression else None,
        explain=lambda asked, output: first_difference(
            reference.module, build.target, folder, asked, quantized=not exact, output=output
        ),
        max_disagreement=bench.recipe.budget.max_disagreement,
        original=original,
    )


def _compared(bench: Workbench) -> list[str]:
    """Splits on which a candidate is compared with the champion."""
    return [GATE, *bench.recipe.verify.also, *([TODAY] if TODAY in bench.splits else [])]


def _answers(bench: Workbench, predictor: Any) -> dict[str, Array]:
    """Split → probabilities (n, classes); of a regression numbers, float32 (n, k)."""
    return {name: predicted(predictor, bench.splits[name].inputs) for name in _compared(bench)}


def _right(answers: Array, labels: Array) -> Array:
    """Which rows are decided right, bool (n,)."""
    return np.asarray(answers.argmax(axis=1) == labels)


def _champion_answers(bench: Workbench, champion: int | None) -> dict[str, Array] | None:
    if champion is None:
        return None
    folder = Watch(bench.code.path, bench.settings).release(champion)
    facts = json.loads((folder / "release.json").read_bytes())
    return _answers(bench, runtime.load(facts["target"], folder, facts["threads"]))


def _seen(bench: Workbench, baseline: Any, answers: Mapping[str, Array], confidence: float) -> Seen:
    """The original on validation, beside its answers on the gate that are there already."""
    validation, gate = bench.splits[VALIDATION], bench.splits[GATE]
    known = _right(predicted(baseline, validation.inputs), validation.labels)
    return has_seen(known, _right(answers[GATE], gate.labels), confidence)


def _confusion(bench: Workbench, answers: Mapping[str, Array]) -> list[list[int]]:
    decided = answers[GATE].argmax(axis=1)
    matrix: list[list[int]] = counts(bench.splits[GATE].labels, decided, bench.classes).tolist()
    return matrix


def _scatter(bench: Workbench, answers: Mapping[str, Array]) -> list[list[list[float]]]:
    """Of some gate rows and each output: [true, answered]."""
    labels, given = bench.splits[GATE].labels, answers[GATE]
    rows = np.linspace(0, len(labels) - 1, min(len(labels), SCATTERED)).round().astype(np.int64)
    pairs: list[list[list[float]]] = np.stack([labels[rows], given[rows]], axis=-1).astype(float).tolist()
    return pairs
