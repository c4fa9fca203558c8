"""The report of a gate: one HTML file that needs nothing else, and the same content as JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NotRequired, TypedDict

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from matplotlib.figure import Figure

from trimtab.bootstrap import CORRECTED_ROWS, RESAMPLES
from trimtab.candidate import Interval, Json
from trimtab.compress.search.record import SearchRecord
from trimtab.recipe.schema import Budget
from trimtab.retrain import in_words
from trimtab.task import CLASSIFICATION, Task
from trimtab.verify import confusion, exploration, pareto, reliability_diagram, scatter, words
from trimtab.verify.attribution import picture
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import Decision
from trimtab.verify.numbers import PairedNumbers
from trimtab.verify.predictor import Array
from trimtab.verify.seen import Seen
from trimtab.verify.words import percent, smaller, times

TEMPLATE = "report.html.j2"
ORIGINAL = "original"  # label of the uncompressed candidate
SLICES_SHOWN = 40  # the worst ones; slices.csv has all
WORDS = {"pass": "PASS", "fail": "FAIL", "undecided": "UNDECIDED"}


class Meta(TypedDict):
    """What the report says beyond the evidence.

    Keys:
        budget: the recipe's. candidate, label, target, precision: of the finalist the evidence is about.
        labels: class names. confusion_before, confusion_after: int (C, C) on the gate split, original and finalist.
            Of a regression no names, and float (n, k, 2) [true, answered] of gate rows.
        seen: the original on validation and on the gate; None of a regression.
        lineage: steps applied, as mappings with method, parameters, seed.
        environment: name → value, e.g. host, cpu, cores, threads, versions.
        explained: row → name → input of the validation rows whose attributions are drawn. patch: the recipe's.
        search: what the search found; absent where none was made.
        retraining: what it was retrained with, as `NewRows.facts` says; absent where it was not.
    """

    budget: Budget
    candidate: str
    label: str
    target: str
    precision: str
    labels: Sequence[str]
    confusion_before: Array
    confusion_after: Array
    seen: Seen | None
    lineage: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    explained: NotRequired[Mapping[int, Mapping[str, Array]]]
    patch: NotRequired[int | None]
    search: NotRequired[SearchRecord]
    retraining: NotRequired[Mapping[str, Any]]


def render(
    title: str,
    evidence: Evidence,
    decision: Decision,
    points: Sequence[Any],
    front: Sequence[Any],
    meta: Meta,
) -> str:
    """One self-contained HTML page: no script, no network, readable on a phone, light and dark.

    Args:
        title: of the page.
        points, front: of the search, as `pareto.spots` takes them.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_source)
    )
    environment.filters.update(
        percent=percent, smaller=smaller, points=words.points, signed=words.signed, kb=_kilobytes, ms=_milliseconds
    )
    template = environment.get_template(TEMPLATE)
    winner = (meta["candidate"], meta["target"])
    best = {spot.key for spot in pareto.spots(front)}
    spots = sorted(pareto.spots(points), key=lambda spot: (-spot.first_speedup, -spot.accuracy, spot.key))
    task = task_of(evidence)
    before, after = pictures(meta, task)
    search = _shown(meta)
    return template.render(
        task=task,
        numbers=task.regression,
        counted=task.by_accuracy,
        resamples=RESAMPLES,
        corrected_rows=CORRECTED_ROWS,
        title=title,
        evidence=evidence,
        decision=decision,
        word=WORDS[decision.answer],
        sentence=sentence(evidence, decision, original=original_on(points, evidence, meta)),
        spots=spots,
        best=best,
        winner=winner,
        meta=meta,
        slices_shown=SLICES_SHOWN,
        bars=[_bar(name, paired.difference, -meta["budget"].max_drop) for name, paired in evidence.paired.items()],
        costs={"candidate": _spot(points, meta, winner[0]), "original": _uncut(points, meta)},
        trust_image="" if evidence.trust is None else _inline(reliability_diagram.figure(evidence.trust)),
        **_attributions(evidence, meta),
        front_image=_inline(pareto.figure(points, front, meta["budget"], winner, task)),
        search=search,
        retraining=in_words(meta["retraining"]) if "retraining" in meta else None,
        search_image=_inline(exploration.figure(search)) if search is not None else None,
        before_image=_inline(before),
        after_image=_inline(after),
    )


def task_of(evidence: Evidence) -> Task:
    """What the evidence is about, by what was compared."""
    first = next(iter(evidence.paired.values()))
    return Task.of(first.metric) if isinstance(first, PairedNumbers) else CLASSIFICATION


def pictures(meta: Meta, task: Task) -> tuple[Figure, Figure]:
    """Original and finalist on the gate: confusion matrices, or answers against labels."""
    before, after = meta["confusion_before"], meta["confusion_after"]
    if task.regression:
        return scatter.figure(before, "before: the original"), scatter.figure(after, "after: this candidate")
    labels = meta["labels"]
    return (
        confusion.figure(before, labels, "before: the original"),
        confusion.figure(after, labels, "after: this candidate"),
    )


def as_json(
    title: str,
    evidence: Evidence,
    decision: Decision,
    points: Sequence[Any],
    front: Sequence[Any],
    meta: Meta,
) -> dict[str, Json]:
    """The content of `render`, JSON-safe; matrices instead of images, of a regression "scatter" of answers."""
    before, after = np.asarray(meta["confusion_before"]).tolist(), np.asarray(meta["confusion_after"]).tolist()
    seen, task = meta["seen"], task_of(evidence)
    shown: dict[str, Json] = {
        "confusion": {"labels": [str(label) for label in meta["labels"]], "before": before, "after": after}
    }
    if task.regression:
        shown = {"task": task.kind, "metric": task.metric, "scatter": {"before": before, "after": after}}
    return {
        "title": title,
        "summary": sentence(evidence, decision, original=original_on(points, evidence, meta)),
        "evidence": evidence.to_json(),
        "decision": decision.to_json(),
        "points": [spot.to_json() for spot in pareto.spots(points)],
        "front": [spot.to_json() for spot in pareto.spots(front)],
        "budget": meta["budget"].model_dump(mode="json"),
        "costs": {
            name: None if spot is None else {"peak_memory_mb": spot.memory_mb, "load_ms": spot.load_ms}
            for name, spot in (
                ("candidate", _spot(points, meta, meta["candidate"])),
                ("uncompressed", _uncut(points, meta)),
            )
        },
        **shown,
        **({} if seen is None else {"seen": {**seen.to_json(), "found": seen.found}}),
        "lineage": [dict(step) for step in meta["lineage"]],
        "environment": dict(meta["environment"]),
        **({"retraining": dict(meta["retraining"])} if "retraining" in meta else {}),
        **({"search": search.to_json()} if (search := _shown(meta)) is not None else {}),
        **{key: meta[key] for key in ("candidate", "label", "target", "precision")},
    }


def _shown(meta: Meta) -> SearchRecord | None:
    """The search, where one was made and saw anything."""
    search = meta.get("search")
    return search if search is not None and search.seen else None


def original_on(points: Sequence[Any], evidence: Evidence, meta: Meta) -> tuple[str, float] | None:
    """Target of this candidate and speed-up of the uncompressed original there, at the batch the evidence begins with.

    It tells what the runtime alone gives from what compression adds. None when that was not measured, and when the
    candidate is the original itself.
    """
    for spot in pareto.spots(points):
        if spot.label == ORIGINAL and spot.target == meta["target"] and spot.candidate != meta["candidate"]:
            speedup = spot.speedup.get(evidence.first_batch)
            return None if speedup is None else (spot.target, speedup)
    return None


def sentence(evidence: Evidence, decision: Decision, *, original: tuple[str, float] | None = None) -> str:
    """The outcome in one plain sentence.

    E.g. "PASS: 2.3x faster than eager PyTorch at batch 1, 3.1x smaller, accuracy on gate 98.2 % (98.6 % before).".

    Args:
        original: `original_on`; put beside the speed-up.
    """
    split, paired = next(iter(evidence.paired.items()))
    latency = evidence.latency[evidence.first_batch]
    noise = evidence.noise_floor[evidence.first_batch]
    speed = "no faster" if abs(latency.speedup - 1) <= noise else times(latency.speedup, "faster", "slower", 1)
    speed += f" than eager PyTorch at batch {evidence.first_batch}"
    if original is not None:
        speed += f" (the uncompressed original on {original[0]}: {original[1]:.1f}x, on validation)"
    said = (
        f"{WORDS[decision.answer]}: {speed}, {times(evidence.size_ratio, 'smaller', 'larger', 1)}, "
        f"{paired.name} on {split} {paired.show(paired.candidate.value)} ({paired.show(paired.original.value)} before)"
    )
    failed = [check.name for check in decision.checks if check.passed is False]
    if failed:
        return f"{said}; not met: {', '.join(failed)}."
    if decision.answer == "undecided":
        more = f", about {decision.needed_rows:,} more rows would" if decision.needed_rows else ""
        return f"{said}; the rows are too few to decide{more}."
    return f"{said}."


def _spot(points: Sequence[Any], meta: Meta, candidate: str) -> pareto.Point | None:
    """A candidate on the finalist's target, as the selection measured it."""
    key = (candidate, meta["target"])
    return next((spot for spot in pareto.spots(points) if spot.key == key), None)


def _uncut(points: Sequence[Any], meta: Meta) -> pareto.Point | None:
    """The uncompressed original on the finalist's target; None where the finalist is that itself."""
    here = [spot for spot in pareto.spots(points) if spot.target == meta["target"] and spot.label == ORIGINAL]
    return next((spot for spot in here if spot.candidate != meta["candidate"]), None)


def _attributions(evidence: Evidence, meta: Meta) -> dict[str, Any]:
    """The picture of the explained rows, where their inputs are at hand."""
    found, inputs = evidence.attributions, meta.get("explained")
    if found is None or not found.examples or not inputs:
        return {"attribution_image": "", "attribution_maps": False}
    labels = meta["labels"]
    if task_of(evidence).regression:
        outputs = np.shape(meta["confusion_before"])[1]
        labels = [f"output {index}" for index in range(outputs)] if outputs > 1 else [""]
    drawing = picture.figure(found, inputs, meta.get("patch"), labels)
    image = next(iter(inputs.values()))
    return {
        "attribution_image": _inline(drawing, dpi=110),
        "attribution_maps": len(image) == 1 and next(iter(image.values())).ndim == 3,
    }


def _source(name: str) -> str:
    """The text of a template beside this file."""
    return files("trimtab.verify").joinpath(name).read_text(encoding="utf-8")


def _bar(name: str, difference: Interval, margin: float) -> dict[str, Any]:
    """An interval and the margin on one scale: positions in percent of the width."""
    lowest, highest = min(difference.low, margin, 0.0), max(difference.high, 0.0)
    pad = 0.08 * (highest - lowest)

    def at(value: float) -> float:
        return round(100 * (value - lowest + pad) / (highest - lowest + 2 * pad), 2)

    values = {"low": difference.low, "high": difference.high, "value": difference.value, "margin": margin, "zero": 0.0}
    return {"name": name, "difference": difference, "at": {key: at(value) for key, value in values.items()}}


def _inline(drawing: Figure, dpi: int = 150) -> str:
    """A figure as a data URL (PNG, transparent)."""
    stream = io.BytesIO()
    drawing.savefig(stream, format="png", dpi=dpi, transparent=True, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _kilobytes(size: float) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{1e3 * seconds:.3f}" if seconds < 0.1 else f"{1e3 * seconds:.1f}"
