"""Stage 5: the verified build becomes one MLflow model version with its evidence."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.bench import ReleaseRun
from tasks.edges import after, ended, quoted
from tasks.reporting import retrained
from tasks.verify import Verified
from trimtab import runtime
from trimtab.compress.assess import open_build, predicted
from trimtab.data import Array
from trimtab.monitoring import performance_reference
from trimtab.monitoring import profile as reference_profile
from trimtab.monitoring.door import kinds_of, own_of
from trimtab.monitoring.own import own_columns
from trimtab.own_slices import computed_slices
from trimtab.recipe.guarding import released
from trimtab.registry import package
from trimtab.registry.card import card
from trimtab.registry.register import Submission
from trimtab.registry.register import register as register_release
from trimtab.registry.sbom import bill
from trimtab.retrain import in_words
from trimtab.verify.accuracy import Paired
from trimtab.verify.numbers import PairedNumbers
from trimtab.verify.report import sentence
from trimtab.verify.words import smaller
from trimtab.workbench import Workbench

GOLDEN_ROWS = 8


@task(name="register", task_run_name="register", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def register_version(bench: Workbench, run: ReleaseRun, verified: Verified) -> int:
    """Pack the release and register it; the same release is the same version, however often this is called."""
    with tempfile.TemporaryDirectory(prefix="trimtab-release-") as scratch:
        folder = Path(scratch) / "release"
        pack(bench, run.key, verified, folder)
        submission = Submission(
            folder=folder,
            loader_source=runtime.bundle(verified.build.target),
            requirements=runtime.requirements(verified.build.target),
            run_id=run.run_id,
            description=describe(bench, run, verified),
            tags=figures(verified),
            decision=verified.decision.to_json(),
        )
        return register_release(run.registry, submission)


def register(bench: Workbench, run: ReleaseRun, verified: Verified) -> int:
    """Register what passed the gate."""
    state = register_version(*quoted(bench, run, verified), wait_for=after(bench, "verify"), return_state=True)
    version: int = ended(bench, "register", state)
    run.tracking.set_tags(run.run_id, {"trimtab.version": str(version)})
    return version


def pack(bench: Workbench, release: str, verified: Verified, folder: Path) -> str:
    """The release folder: files, golden answers, reference profile, manifest."""
    build, recipe = verified.build, bench.recipe
    predictor = open_build(bench, build)
    split = "today" if "today" in bench.splits else "gate"
    sample = bench.splits[split]
    answers = predicted(predictor, sample.inputs)
    profile, columns = reference_profile.build(
        sample.inputs,
        answers,
        sample.labels,
        task=bench.task,
        own=own_columns(own_of(bench.code), sample.inputs),
        given=kinds_of(recipe.monitoring),
    )
    performance = performance_reference.build(columns, answers, sample.labels, _slices(bench, split), bench.task)
    golden = {name: values[:GOLDEN_ROWS] for name, values in bench.splits["gate"].inputs.items()}
    facts = package.Facts(
        name=recipe.name,
        candidate=build.candidate,
        label=verified.candidate.label,
        target=build.target,
        precision=build.precision,
        threads=recipe.serving.threads,
        classes=None if bench.task.regression else bench.classes,
        labels=recipe.labels,
        gate=verified.decision.to_json(),
        accuracy=None if bench.task.regression else asdict(verified.accuracy),
        extra={
            **_metric_facts(bench, verified),
            "release": release,
            # Without the report's address: it names a port, and the release's bytes must not depend on one.
            "figures": {key: value for key, value in verified.figures().items() if key != "report_url"},
            "original": verified.original,
            "verdict": bench.new_rows.verdict if bench.new_rows else None,
            **({"recompressed": bench.recompress.verdict} if bench.recompress else {}),
            **({"retraining": retraining} if (retraining := retrained(bench, verified.candidate)) else {}),
            "finalists": [[asdict(step) for step in steps] for steps in verified.finalists],
            "finalist_targets": verified.finalist_targets,
            "serving": released(recipe.serving),
            "lineage": [asdict(step) for step in verified.candidate.lineage],
            "evidence": verified.evidence.to_json(),
            "intended_use": recipe.intended_use,
        },
    )
    return package.pack(
        bench.target_folder(build.candidate, build.target),
        folder,
        facts,
        package.Golden(golden, predictor.predict(golden)),
        profile=json.dumps(profile.to_json(), sort_keys=True).encode(),
        reference=reference_profile.reference_parquet(columns),
        performance=json.dumps(performance.to_json(), sort_keys=True, allow_nan=False).encode(),
        card=card(facts.to_json(), {split: len(data) for split, data in bench.splits.items()}).encode(),
        sbom=bill(recipe.name, build.candidate, runtime.requirements(build.target)),
    )


def _slices(bench: Workbench, split: str) -> dict[str, Array]:
    """The recipe's slices of the rows that a window is compared with, where they can be had."""
    if split == "gate":
        return bench.slices
    computed = computed_slices(bench.code)
    return {} if computed is None else computed(bench.splits[split].inputs)


def _metric_facts(bench: Workbench, verified: Verified) -> dict[str, Any]:
    """What release.json says of a regression in place of classes and accuracy, of a classifier beside them."""
    task = bench.task
    if task.by_accuracy:
        return {}
    numbers = {"task": task.kind, "outputs": bench.outputs} if task.regression else {}
    return {**numbers, "metric": task.metric, task.metric: asdict(verified.gate.candidate)}


def figures(verified: Verified) -> dict[str, str]:
    """Tags of the version: the figures one compares versions by."""
    gate = verified.gate
    word, digits = (gate.metric, ".6g") if isinstance(gate, PairedNumbers) else ("accuracy", ".4f")
    return {
        word: f"{gate.candidate.value:{digits}}",
        f"{word}_original": f"{gate.original.value:{digits}}",
        "speedup": f"{verified.latency.speedup:.2f}",
        "size_ratio": f"{verified.evidence.size_ratio:.2f}",
        "p99_ms": f"{verified.latency.p99_s * 1000:.3f}",
    }


def describe(bench: Workbench, run: ReleaseRun, verified: Verified) -> str:
    """The version's page in MLflow, in Markdown."""
    recipe, build, shown, name = bench.recipe, verified.build, verified.figures(), bench.task.name
    rows: list[tuple[str, Any]] = [
        (f"{name[0].upper()}{name[1:]} (gate)", shown[bench.task.metric]),
        ("Difference from the original", shown["difference"]),
        *_pays(verified),
        *[
            (f"Difference from the champion ({split})", points(paired))
            for split, paired in (verified.evidence.versus_champion or {}).items()
        ],
        (
            "Speed-up",
            f"{shown['speedup']:.2f}x eager PyTorch ({shown['speedup_spread']}), batch {verified.latency.batch}",
        ),
        ("p50 / p99", f"{shown['p50_ms']:.3f} ms / {shown['p99_ms']:.3f} ms"),
        ("Size", f"{build.size_bytes / 1024:.0f} KiB, {smaller(shown['size_ratio'])} than the FP32 weights"),
        ("Runs on", f"{build.target}, {build.precision}, {recipe.serving.threads} thread(s)"),
        *([("Retrained on", in_words(retraining))] if (retraining := retrained(bench, verified.candidate)) else []),
        ("Made by", f"[run {run.run_id[:8]}]({run.link()}): {run.reason}"),
        (
            "Report",
            f"[verification report]({verified.report_url})" if verified.report_url else "in the run's artifacts",
        ),
    ]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    use = f"\n\n{recipe.intended_use}" if recipe.intended_use else ""
    outcome = sentence(verified.evidence, verified.decision).removeprefix("PASS: ")
    first = f"{verified.candidate.label} of {recipe.name}, on {build.target}, passed the gate: {outcome}"
    return f"{first}{use}\n\n| | |\n|---|---|\n{table}\n"


def _pays(verified: Verified) -> list[tuple[str, str]]:
    """Who pays most, as a row of the table; a slice may be called what a table of Markdown would take for its own."""
    slices = verified.evidence.slices
    return [] if slices is None else [("By class and slice", slices.sentence().replace("|", "\\|"))]


def points(paired: Paired | PairedNumbers) -> str:
    """A difference of accuracies in percentage points, or of numbers in the metric's words, with its interval."""
    difference = paired.difference
    if isinstance(paired, PairedNumbers):
        words = [paired.amount(end) for end in (difference.value, difference.low, difference.high)]
        return f"{words[0]}, interval {words[1]} to {words[2]}"
    value, low, high = (100 * share for share in (difference.value, difference.low, difference.high))
    return f"{value:+.2f} points, interval {low:+.2f} to {high:+.2f}"
