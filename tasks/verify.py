"""Stage 4: the finalists on rows nothing else has seen; the gate decides, the fastest that passes goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prefect.logging import get_run_logger

from tasks.bench import ReleaseRun
from tasks.edges import after, ended, quoted
from tasks.evidence import GATE, measure_finalists
from tasks.reporting import publish_report
from tasks.select import Finalists
from trimtab.candidate import Candidate, Converted, Interval, Latency, Step
from trimtab.errors import BudgetNotMet
from trimtab.verify.accuracy import Paired
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import Decision
from trimtab.verify.numbers import PairedNumbers
from trimtab.verify.seen import Seen
from trimtab.workbench import Workbench

__all__ = ["Verified", "measure_finalists", "verify"]


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
    def gate(self) -> Paired | PairedNumbers:
        """Candidate against original on the gate split."""
        return self.evidence.paired[GATE]

    @property
    def accuracy(self) -> Interval:
        """Of a classifier on the gate, whatever metric decides."""
        return (self.evidence.accuracy or self.gate).candidate

    def figures(self) -> dict[str, Any]:
        """What summaries and pages show, JSON-safe."""
        latency, gate = self.latency, self.gate
        return {
            "candidate": self.build.candidate,
            "label": self.candidate.label,
            "target": self.build.target,
            "precision": self.build.precision,
            **_metric(gate),
            "speedup": latency.speedup,
            "speedup_spread": f"{latency.speedup_low:.2f}x to {latency.speedup_high:.2f}x",
            "p50_ms": latency.p50_s * 1000,
            "p99_ms": latency.p99_s * 1000,
            "size_bytes": self.build.size_bytes,
            "size_ratio": self.evidence.size_ratio,
            "report_url": self.report_url,
        }


def _metric(gate: Paired | PairedNumbers) -> dict[str, str]:
    """The metric under its name, and the difference."""
    interval, n = gate.difference, gate.candidate.n
    if isinstance(gate, PairedNumbers):
        said = f"{gate.show(gate.candidate.value)} (original {gate.show(gate.original.value)}, n={n})"
        ends = f"{gate.amount(interval.low)} to {gate.amount(interval.high)}"
        return {gate.metric: said, "difference": f"{gate.amount(interval.value)}, interval {ends}"}
    low, high = 100 * interval.low, 100 * interval.high
    return {
        "accuracy": f"{gate.candidate.value:.2%} (original {gate.original.value:.2%}, n={n})",
        "difference": f"{100 * interval.value:+.2f} points, interval {low:+.2f} to {high:+.2f}",
    }


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
    _log(tried, None if bench.task.regression else Seen.from_json(measured["seen"]))
    if not passed:
        raise BudgetNotMet(_how_near(tried), where=bench.recipe.name, fix=f"nothing was registered; report: {url}")
    return replace(chosen, report_url=url)


def _log(tried: list[Verified], seen: Seen | None) -> None:
    log = get_run_logger()
    if seen is not None and seen.found:
        log.warning("%s", seen.sentence())
    for verified in tried:
        log.info("%s on %s: %s", verified.candidate.label, verified.build.target, verified.decision.answer)
        for check in verified.decision.checks:
            log.info("  %s: %s", check.name, check.reason)
        slices = verified.evidence.slices
        if slices is not None and slices.pays_most is not None:
            log.info("  %s", slices.sentence())


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
