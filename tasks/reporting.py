"""The verification report where people look for it: in MLflow, under the service's /reports, and in the Prefect UI."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from tasks.artifacts import artifact_key, page_url
from tasks.bench import ReleaseRun
from trimtab.candidate import Candidate, Converted
from trimtab.compress.search import Point
from trimtab.store import write_atomic
from trimtab.verify import confusion, pareto, report
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import Decision
from trimtab.workbench import Workbench


def publish_report(
    bench: Workbench,
    run: ReleaseRun,
    build: Converted,
    candidate: Candidate,
    evidence: Evidence,
    decision: Decision,
    points: Sequence[Point],
    front: Sequence[Point],
    measured: Mapping[str, Any],
) -> str | None:
    """Render the report once and put it everywhere; its address, None where no service of ours serves files."""
    meta = _meta(bench, build, candidate, measured)
    title = f"{bench.recipe.name}: {candidate.label} on {build.target}"
    content = (title, evidence, decision, points, front, meta)
    page = report.render(*content)
    name = f"{bench.recipe.name}/release-{run.key[:8]}.html"
    write_atomic(bench.settings.reports / name, page.encode())
    run.tracking.log_text(run.run_id, page, "verification/report.html")
    run.tracking.log_text(run.run_id, json.dumps(report.as_json(*content), indent=1), "verification/report.json")
    winner = (build.candidate, build.target)
    run.tracking.log_figure(run.run_id, pareto.figure(points, front, bench.recipe.budget, winner), "plots/pareto.png")
    after = confusion.figure(meta["confusion_after"], meta["labels"], "after: this candidate")
    run.tracking.log_figure(run.run_id, after, "plots/confusion.png")
    run.tracking.log_metrics(run.run_id, _metrics(evidence))
    url = page_url(bench.settings, bench.recipe, name)
    _artifacts(bench, run, report.sentence(evidence, decision), decision, url)
    return url


def _meta(bench: Workbench, build: Converted, candidate: Candidate, measured: Mapping[str, Any]) -> report.Meta:
    names = bench.recipe.labels or [str(index) for index in range(bench.classes)]
    timings = measured["timings"]
    return report.Meta(
        budget=bench.recipe.budget,
        candidate=build.candidate,
        label=candidate.label,
        target=build.target,
        precision=build.precision,
        labels=names,
        confusion_before=np.asarray(measured["confusion"]["baseline"]),
        confusion_after=np.asarray(measured["confusion"][f"{build.candidate}@{build.target}"]),
        lineage=[asdict(step) for step in candidate.lineage],
        environment={key: timings[key] for key in ("host", "cpu", "cores", "threads", "versions")},
    )


def _metrics(evidence: Evidence) -> dict[str, float]:
    gate = evidence.paired["gate"]
    latency = evidence.latency[evidence.first_batch]
    return {
        "gate_accuracy": gate.candidate.value,
        "gate_accuracy_original": gate.original.value,
        "gate_difference_low": gate.difference.low,
        "size_ratio": evidence.size_ratio,
        "p50_ms": latency.p50_s * 1000,
        "p99_ms": latency.p99_s * 1000,
        **{f"speedup_b{batch}": value.speedup for batch, value in evidence.latency.items()},
    }


def _artifacts(bench: Workbench, run: ReleaseRun, sentence: str, decision: Decision, url: str | None) -> None:
    marks = {True: "✓", False: "✗", None: "?"}
    checks = "\n".join(f"| {marks[c.passed]} | {c.name} | {c.reason} |" for c in decision.checks)
    links = f"[run in MLflow]({run.link()})" + (f" · [full report]({url})" if url else "")
    create_markdown_artifact(
        key=artifact_key("gate", bench.recipe.name),
        description=sentence,
        markdown=f"# {sentence}\n\n{links}\n\n| | check | figures |\n|---|---|---|\n{checks}\n",
    )
    if url:
        create_link_artifact(key=artifact_key("report", bench.recipe.name), link=url, link_text="Verification report")
