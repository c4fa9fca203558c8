"""The model card of a release, in Markdown: what it is for, what it was made from, how good it is and where it is not.

After Mitchell et al., "Model Cards for Model Reporting" (2019). Made from release.json alone, so the same release has
the same card; a figure never stands without its interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trimtab.retrain import in_words
from trimtab.task import ERRORS, NAMES, OF_NUMBERS

NOT_SAID = "The recipe does not say; `intended_use` is the key for it."


def card(facts: Mapping[str, Any], rows: Mapping[str, int]) -> str:
    """The card.

    Args:
        facts: release.json, as `package.Facts.to_json` gives it, with `lineage`, `evidence` and `intended_use`.
        rows: split → number of rows.
    """
    sections = {
        "Intended use": [str(facts.get("intended_use") or NOT_SAID)],
        "Data": _table(("split", "rows"), rows.items()) if rows else ["Not recorded."],
        "How it was made": [f"{number}. {_step(step)}" for number, step in enumerate(facts.get("lineage") or [], 1)]
        + (["", f"{in_words(facts['retraining'])}."] if facts.get("retraining") else []),
        _metric(facts): _accuracy(facts.get("evidence") or {}, facts.get("metric")),
        "By class and slice": _slices((facts.get("evidence") or {}).get("slices"), _of_slices(facts.get("metric"))),
        "Speed and size": _cost(facts.get("evidence") or {}),
        "The gate": [f"Answer: {facts['gate'].get('answer')}.", "", *_gate(facts["gate"].get("checks") or [])],
        "Limits": _limits(facts),
    }
    title = [f"# {facts['name']}: {facts['label']} on {facts['target']}", ""]
    body = [line for head, lines in sections.items() for line in (f"## {head}", "", *lines, "")]
    return "\n".join([*title, *body]).rstrip() + "\n"


def _metric(facts: Mapping[str, Any]) -> str:
    name = NAMES[facts.get("metric") or "accuracy"]
    return f"{name[0].upper()}{name[1:]}"


def _accuracy(evidence: Mapping[str, Any], metric: str | None) -> list[str]:
    """The metric by split: shares and points of accuracy, plain figures of every other."""
    show, unit = (_figure, _difference(metric)) if metric else (_share, "difference in points")
    rows = []
    for split, paired in (evidence.get("paired") or {}).items():
        gap = paired["difference"]
        change = _figure(gap) if metric and metric not in ERRORS else _points(gap)
        rows.append((split, gap["n"], show(paired["original"]), show(paired["candidate"]), change))
    return _table(("split", "rows", "original", "this release", unit), rows) or ["Not recorded."]


def _difference(metric: str | None) -> str:
    return "better by %, negative where worse" if metric in ERRORS else "difference"


def _of_slices(metric: str | None) -> str | None:
    """What slices are judged by: of a classifier their accuracy, whatever metric decides."""
    return metric if metric in OF_NUMBERS else None


def _slices(slices: Mapping[str, Any] | None, metric: str | None = None) -> list[str]:
    if not slices:
        return ["Not measured."]
    rows = [
        (
            one["name"],
            one["paired"]["difference"]["n"],
            (_figure if metric else _share)(one["paired"]["candidate"]),
            (_figure if metric and metric not in ERRORS else _points)(one["paired"]["difference"]),
        )
        for one in slices["measured"]
    ]
    unknown = ", ".join(slices.get("unmeasured") or [])
    said = [f"Worst first; all intervals hold together with {slices['confidence']:.0%}.", ""]
    heads = (NAMES[metric], _difference(metric)) if metric else ("accuracy", "difference from the original in points")
    table = _table(("slice", "rows", *heads), rows)
    return [*said, *table, *(["", f"Without a row, so nothing is known of: {unknown}."] if unknown else [])]


def _cost(evidence: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            one["batch"],
            f"{one['speedup']:.2f}x [{one['speedup_low']:.2f}, {one['speedup_high']:.2f}] in {one['rounds']} rounds",
            f"{1000 * one['p50_s']:.3f} ms",
            f"{1000 * one['p99_s']:.3f} ms",
        )
        for one in evidence.get("latency") or []
    ]
    size = evidence.get("size_bytes")
    lines = _table(("batch", "against eager PyTorch", "p50", "p99"), rows)
    was = f"{evidence.get('original_size_bytes')} bytes of FP32 weights"
    return [*lines, *(["", f"{size} bytes as shipped; the original has {was}."] if size else [])] or ["Not recorded."]


def _gate(checks: Iterable[Mapping[str, Any]]) -> list[str]:
    marks = {True: "✓", False: "✗", None: "?"}
    return [f"- {marks[check.get('passed')]} {check.get('name')}: {check.get('reason')}" for check in checks]


def _limits(facts: Mapping[str, Any]) -> list[str]:
    return [
        _answers(facts),
        "- Its figures hold for rows like those of the gate; nothing is known of others.",
        f"- They were measured on one machine with {facts['threads']} thread(s); speed on another is another.",
        f"- Numbers are kept in {facts['precision']}; answers on another processor can differ in the last digits.",
    ]


def _answers(facts: Mapping[str, Any]) -> str:
    if facts.get("classes") is None:
        return f"- It answers with {facts.get('outputs', 1)} number(s), whatever it is shown."
    classes = facts.get("labels") or range(int(facts["classes"]))
    return (
        f"- It answers with one of {facts['classes']} classes ({', '.join(map(str, classes))}), whatever it is shown."
    )


def _step(step: Mapping[str, Any]) -> str:
    seed = "" if step.get("seed") is None else f", seed {step['seed']}"
    given = ", ".join(
        f"{key} {value}" for key, value in sorted((step.get("parameters") or {}).items()) if key != "label"
    )
    return f"**{_safe(step['method'])}** ({_safe(given) or 'as it is'}{seed})"


def _share(interval: Mapping[str, Any]) -> str:
    return f"{interval['value']:.2%} [{interval['low']:.2%}, {interval['high']:.2%}]"


def _figure(interval: Mapping[str, Any]) -> str:
    return f"{interval['value']:.4g} [{interval['low']:.4g}, {interval['high']:.4g}]"


def _points(interval: Mapping[str, Any]) -> str:
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    lines = ["| " + " | ".join(_safe(cell) for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *lines] if lines else []


def _safe(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
