"""Stage 4: the finalists on rows nothing else has seen; the gate decides, the fastest that passes goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from tasks.bench import ReleaseRun
from tasks.caching import JSON_RESULT, content_key
from tasks.edges import after, ended, quoted
from tasks.progress import Progress
from tasks.reporting import publish_report
from tasks.select import Finalists
from trimtab import runtime
from trimtab.candidate import Candidate, Converted, Latency, Step
from trimtab.compress.assess import build_name, eager, open_build, original_bytes, parent_of, predicted
from trimtab.data import Array
from trimtab.errors import BudgetNotMet
from trimtab.verify.accuracy import Paired, paired
from trimtab.verify.confusion import counts
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import Decision, decide
from trimtab.verify.latency import Timings, measure
from trimtab.verify.parity import Parity, compare
from trimtab.watch import Watch
from trimtab.workbench import Workbench

GATE, TODAY = "gate", "today"


@dataclass(frozen=True)
class Verified:
    """The build that passed, with what was measured on it."""

    build: Converted
    candidate: Candidate
    original: str
    evidence: Evidence
    decision: Decision
    finalists: list[list[Step]]
    finalist_targets: list[str]
    report_url: str | None

    @property
    def latency(self) -> Latency:
        """At the batch size the budget speaks of."""
        return self.evidence.latency[self.evidence.first_batch]

    @property
    def gate(self) -> Paired:
        """Candidate against original on the gate split."""
        return self.evidence.paired[GATE]

    def figures(self) -> dict[str, Any]:
        """What summaries and pages show, JSON-safe."""
        latency, gate = self.latency, self.gate
        low, high = 100 * gate.difference.low, 100 * gate.difference.high
        return {
            "candidate": self.build.candidate,
            "label": self.candidate.label,
            "target": self.build.target,
            "precision": self.build.precision,
            "accuracy": f"{gate.candidate.value:.2%} (original {gate.original.value:.2%}, n={gate.candidate.n})",
            "difference": f"{100 * gate.difference.value:+.2f} points, interval {low:+.2f} to {high:+.2f}",
            "speedup": latency.speedup,
            "speedup_spread": f"{latency.speedup_low:.2f}x to {latency.speedup_high:.2f}x",
            "p50_ms": latency.p50_s * 1000,
            "p99_ms": latency.p99_s * 1000,
            "size_bytes": self.build.size_bytes,
            "size_ratio": self.evidence.size_ratio,
            "report_url": self.report_url,
        }


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
        gate = bench.splits[GATE]
        timings = measure(
            baseline,
            predictors,
            gate.inputs,
            bench.recipe.measure,
            lambda done, total: progress(done, total, "rounds of latency"),
        )
        rivals = _champion_answers(bench, champion)
        base = _answers(bench, baseline)
        size = original_bytes(bench, original["id"])
        matrices = {"baseline": _confusion(bench, base)}
        found = []
        for build in parsed:
            own = _answers(bench, predictors[build_name(build)])
            matrices[build_name(build)] = _confusion(bench, own)
            parity = _parity(bench, made[build.candidate], build, predictors[build_name(build)], confidence)
            evidence = _evidence(build, parity, timings, Hits(bench, own, base, rivals), size, confidence)
            decision = decide(evidence, bench.recipe.budget, confidence)
            found.append({"build": build.to_json(), "evidence": evidence.to_json(), "decision": decision.to_json()})
    return {"finalists": found, "timings": timings.to_json(), "confusion": matrices}


def verify(bench: Workbench, run: ReleaseRun, finalists: Finalists) -> Verified:
    """Measure the finalists on the gate and take the first that passes, in the order of the selection.

    Raises:
        BudgetNotMet: none passes; nothing is registered and the champion keeps serving.
    """
    here = all(bench.stored_converted(build.candidate, build.target) for build in finalists.builds)
    wanted = [finalists.candidates[build.candidate].to_json() for build in finalists.builds]
    builds = [build.to_json() for build in finalists.builds]
    arguments = quoted(bench, finalists.original.to_json(), wanted, builds, run.champion)
    fresh = measure_finalists.with_options(refresh_cache=not here)
    measured = ended(bench, "verify", fresh(*arguments, wait_for=after(bench, "select"), return_state=True))
    tried = [_read(bench, finalists, entry) for entry in measured["finalists"]]
    passed = [verified for verified in tried if verified.decision.answer == "pass"]
    chosen = passed[0] if passed else tried[0]
    url = publish_report(
        bench,
        run,
        chosen.build,
        chosen.candidate,
        chosen.evidence,
        chosen.decision,
        finalists.points,
        finalists.front,
        measured,
    )
    log = get_run_logger()
    for verified in tried:
        log.info("%s on %s: %s", verified.candidate.label, verified.build.target, verified.decision.answer)
        for check in verified.decision.checks:
            log.info("  %s: %s", check.name, check.reason)
    if not passed:
        raise BudgetNotMet(_how_near(tried), where=bench.recipe.name, fix=f"nothing was registered; report: {url}")
    return replace(chosen, report_url=url)


@dataclass(frozen=True)
class Hits:
    """Which rows of which split are answered right, by the candidate, its original and the champion."""

    bench: Workbench
    own: Mapping[str, Array]
    base: Mapping[str, Array]
    rivals: Mapping[str, Array] | None

    def against_original(self, confidence: float) -> dict[str, Paired]:
        """On the gate split alone: that is what the budget speaks of."""
        return {GATE: self._paired(GATE, self.base, confidence)}

    def against_champion(self, confidence: float) -> dict[str, Paired] | None:
        """On every split; None where nothing serves yet."""
        if self.rivals is None:
            return None
        return {name: self._paired(name, self.rivals, confidence) for name in self.own}

    def _paired(self, name: str, other: Mapping[str, Array], confidence: float) -> Paired:
        labels = self.bench.splits[name].labels
        return paired(other[name] == labels, self.own[name] == labels, confidence)


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
        must_improve=TODAY if champion is not None and TODAY in champion else None,
    )


def _parity(bench: Workbench, candidate: Candidate, build: Converted, predictor: Any, confidence: float) -> Parity:
    """Against its own torch module; a rewritten graph against the module it was made from."""
    inputs = bench.splits[GATE].inputs
    if build.precision == "fp32":
        return compare(eager(bench, candidate), predictor, inputs, bench.recipe.verify.atol, confidence)
    alone = build.precision != "int8-dynamic"  # which scales its activations by the whole batch
    parent = eager(bench, parent_of(bench, candidate))
    return compare(parent, predictor, inputs, None, confidence, batch_invariant=alone)


def _compared(bench: Workbench) -> list[str]:
    """Splits on which a candidate is compared with the champion."""
    return [GATE, *bench.recipe.verify.also, *([TODAY] if TODAY in bench.splits else [])]


def _answers(bench: Workbench, predictor: Any) -> dict[str, Array]:
    """Split → class a row, int64 (n,)."""
    return {name: predicted(predictor, bench.splits[name].inputs).argmax(axis=1) for name in _compared(bench)}


def _champion_answers(bench: Workbench, champion: int | None) -> dict[str, Array] | None:
    if champion is None:
        return None
    folder = Watch(bench.code.path, bench.settings).release(champion)
    facts = json.loads((folder / "release.json").read_bytes())
    return _answers(bench, runtime.load(facts["target"], folder, facts["threads"]))


def _confusion(bench: Workbench, answers: Mapping[str, Array]) -> list[list[int]]:
    matrix: list[list[int]] = counts(bench.splits[GATE].labels, answers[GATE], bench.classes).tolist()
    return matrix


def _read(bench: Workbench, finalists: Finalists, entry: Mapping[str, Any]) -> Verified:
    build = Converted.from_json(entry["build"])
    return Verified(
        build=build,
        candidate=finalists.candidates[build.candidate],
        original=finalists.original.id,
        evidence=Evidence.from_json(entry["evidence"]),
        decision=Decision.from_json(entry["decision"]),
        finalists=[list(finalists.candidates[one.candidate].lineage[1:]) for one in finalists.builds],
        finalist_targets=sorted({one.target for one in finalists.builds}),
        report_url=None,
    )


def _how_near(tried: list[Verified]) -> str:
    lines = []
    for verified in tried:
        missed = [f"{c.name}: {c.reason}" for c in verified.decision.checks if c.passed is not True]
        lines.append(
            f"{verified.candidate.label} on {verified.build.target}: {verified.decision.answer}; " + "; ".join(missed)
        )
    return "no finalist passes the gate:\n    " + "\n    ".join(lines)
