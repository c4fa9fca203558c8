"""The verification report where people look for it: in MLflow, under the service's /reports, and in the Prefect UI."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.runtime import flow_run

from tasks.artifacts import artifact_key, page_url
from tasks.bench import ReleaseRun
from trimtab.candidate import Candidate, Converted
from trimtab.compress.search import Point
from trimtab.data import Array
from trimtab.store import write_atomic
from trimtab.verify import pareto, reliability_diagram, report
from trimtab.verify.attribution.agreement import Agreement
from trimtab.verify.attribution.explainer import SPLIT
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import Decision
from trimtab.verify.reliability import Trust
from trimtab.verify.seen import Seen
from trimtab.verify.slices import Slices
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
    meta = _meta(bench, build, candidate, measured, evidence)
    if run.search is not None:
        meta["search"] = run.search
    if (retraining := retrained(bench, candidate)) is not None:
        meta["retraining"] = retraining
    title = f"{bench.recipe.name}: {candidate.label} on {build.target}"
    content = (title, evidence, decision, points, front, meta)
    page = report.render(*content)
    name = f"{bench.recipe.name}/release-{run.key[:8]}.html"
    write_atomic(bench.settings.reports / name, page.encode())
    run.tracking.log_text(run.run_id, page, "verification/report.html")
    run.tracking.log_text(run.run_id, json.dumps(report.as_json(*content), indent=1), "verification/report.json")
    if evidence.slices is not None:
        run.tracking.log_text(run.run_id, evidence.slices.to_csv(), "verification/slices.csv")
    winner = (build.candidate, build.target)
    run.tracking.log_figure(
        run.run_id, pareto.figure(points, front, bench.recipe.budget, winner, bench.task), "plots/pareto.png"
    )
    kind = "scatter" if bench.task.regression else "confusion"
    before, after = report.pictures(meta, bench.task)
    run.tracking.log_figure(run.run_id, before, f"plots/{kind}_before.png")
    run.tracking.log_figure(run.run_id, after, f"plots/{kind}.png")
    if evidence.trust is not None:
        run.tracking.log_figure(run.run_id, reliability_diagram.figure(evidence.trust), "plots/reliability.png")
    run.tracking.log_metrics(run.run_id, {**metrics(evidence), **cost_metrics(points, winner)})
    url = page_url(bench.settings, bench.recipe, name)
    sentence = report.sentence(evidence, decision)
    pays = "" if evidence.slices is None else f"\n\nBy class and slice: {evidence.slices.sentence()}."
    note = in_note(sentence + pays, flow_run.get_flow_run_ui_url(), url)
    run.tracking.set_tags(run.run_id, {"mlflow.note.content": note})
    _artifacts(bench, title, in_words(sentence, decision, run.link(), url), url)
    return url


def _meta(
    bench: Workbench, build: Converted, candidate: Candidate, measured: Mapping[str, Any], evidence: Evidence
) -> report.Meta:
    numbers = bench.task.regression
    names = [] if numbers else bench.recipe.labels or [str(index) for index in range(bench.classes)]
    timings, shown = measured["timings"], measured["scatter" if numbers else "confusion"]
    return report.Meta(
        budget=bench.recipe.budget,
        candidate=build.candidate,
        label=candidate.label,
        target=build.target,
        precision=build.precision,
        labels=names,
        confusion_before=np.asarray(shown["baseline"]),
        confusion_after=np.asarray(shown[f"{build.candidate}@{build.target}"]),
        seen=None if numbers else Seen.from_json(measured["seen"]),
        lineage=[asdict(step) for step in candidate.lineage],
        environment={key: timings[key] for key in ("host", "cpu", "cores", "threads", "versions")},
        explained=_explained(bench, evidence),
        patch=explain.patch if (explain := bench.recipe.verify.explain) is not None else None,
    )


def retrained(bench: Workbench, candidate: Candidate) -> dict[str, Any] | None:
    """What a release was retrained with: rows of the journal, their weight, where training began; None of others."""
    if bench.new_rows is None:
        return None
    return bench.new_rows.facts(candidate.lineage[0].parameters.get("warm_start"))


def _explained(bench: Workbench, evidence: Evidence) -> dict[int, dict[str, Array]]:
    """Inputs of the rows whose attributions are drawn."""
    examples = () if evidence.attributions is None else evidence.attributions.examples
    inputs = bench.splits[SPLIT].inputs
    return {one.row: {name: values[one.row] for name, values in inputs.items()} for one in examples}


def metrics(evidence: Evidence) -> dict[str, float]:
    """Figures of the gate, for the release's run in MLflow; differences are shares, not points."""
    gate = evidence.paired["gate"]
    latency, word = evidence.latency[evidence.first_batch], report.task_of(evidence).metric
    return {
        f"gate_{word}": gate.candidate.value,
        f"gate_{word}_original": gate.original.value,
        "gate_difference_low": gate.difference.low,
        "size_ratio": evidence.size_ratio,
        "p50_ms": latency.p50_s * 1000,
        **({} if latency.p95_s is None else {"p95_ms": latency.p95_s * 1000}),
        "p99_ms": latency.p99_s * 1000,
        **_latency_metrics(evidence),
        **{f"speedup_b{batch}": value.speedup for batch, value in evidence.latency.items()},
        **{
            f"champion_difference_{split}": paired.difference.value
            for split, paired in (evidence.versus_champion or {}).items()
        },
        **_slice_metrics(evidence.slices),
        **_trust_metrics(evidence.trust),
        **_attribution_metrics(evidence.attributions),
        **{f"requests_per_s_{name}": one.per_s for name, one in evidence.throughput.items()},
    }


def cost_metrics(points: Sequence[Point], winner: tuple[str, str]) -> dict[str, float]:
    """Peak memory and loading of the finalist, as the selection measured them."""
    found = [point for point in points if point.key == winner]
    figures = {"peak_memory_mb": found[0].memory_mb, "load_ms": found[0].load_ms} if found else {}
    return {name: value for name, value in figures.items() if value is not None}


def _latency_metrics(evidence: Evidence) -> dict[str, float]:
    """Percentiles of every batch size, in milliseconds."""
    return {
        f"{name}_ms_b{batch}": 1000 * seconds
        for batch, one in evidence.latency.items()
        for name, seconds in (("p50", one.p50_s), ("p95", one.p95_s), ("p99", one.p99_s))
        if seconds is not None
    }


def _trust_metrics(trust: Trust | None) -> dict[str, float]:
    if trust is None:
        return {}
    return {
        "calibration_error": trust.candidate.ece.value,
        "calibration_error_original": trust.original.ece.value,
        "calibration_rise_high": trust.ece_rise.high,
        "brier_score": trust.candidate.brier.value,
        "brier_score_original": trust.original.brier.value,
    }


def _attribution_metrics(found: Agreement | None) -> dict[str, float]:
    if found is None:
        return {}
    rank, share = found.correlation, found.overlap
    return {
        "attribution_correlation": rank.value,
        "attribution_correlation_low": rank.low,
        "attribution_top_overlap": share.value,
    }


def _slice_metrics(slices: Slices | None) -> dict[str, float]:
    """The largest drop of a class or slice, as estimated; and the lowest of the lower ends, which the gate looks at."""
    if slices is None:
        return {}
    return {
        "worst_slice_drop": 0.0 - slices.worst.paired.difference.value,  # 0.0, not -0.0, where nothing is lost
        "worst_slice_difference_low": min(one.paired.difference.low for one in slices.measured),
    }


def in_note(sentence: str, flow_run_url: str | None, report_url: str | None) -> str:
    """The description of the run in MLflow: the outcome, and where to read on."""
    titles = {"Flow run in Prefect": flow_run_url, "Verification report": report_url}
    links = " · ".join(f"[{title}]({url})" for title, url in titles.items() if url)
    return f"{sentence}\n\n{links}" if links else sentence


def in_words(sentence: str, decision: Decision, run_url: str, report_url: str | None) -> str:
    """The gate as Markdown. A list: the Prefect UI cuts the cells of a table off."""
    marks = {True: "✓", False: "✗", None: "?"}
    checks = "\n".join(f"- {marks[check.passed]} **{check.name}**: {check.reason}" for check in decision.checks)
    links = f"[run in MLflow]({run_url})" + (f" · [full report]({report_url})" if report_url else "")
    return f"# {sentence}\n\n{links}\n\n{checks}\n"


def _artifacts(bench: Workbench, title: str, gate: str, url: str | None) -> None:
    key = artifact_key("gate", bench.recipe.name)
    create_markdown_artifact(key=key, description=f"The gate's answer on {title}", markdown=gate)
    if url:
        create_link_artifact(
            key=artifact_key("report", bench.recipe.name),
            link=url,
            link_text="Verification report",
            description=f"Every figure behind the gate's answer on {title}",
        )
