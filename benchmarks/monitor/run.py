"""One measured run in a process of its own: `python -m benchmarks.monitor.run MODE WINDOW SEED`, one JSON object.

MODE: `evidently` its drift and classification presets on all rows, with its own tests; `ours` the same presets on the
summary with our tests, and the verdict; `verdict` without a page; `full` our tests in Evidently on all rows, for the
error of the summary. Reading the window is part of the time; importing, and the reference in memory, are not.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.monitor.tables import CLASSES, NAMES, reference
from trimtab.monitoring.columns import PREDICTED
from trimtab.monitoring.drift import Comparison, compare
from trimtab.monitoring.engine import PREFIX, evidently
from trimtab.monitoring.evidently_report import drift_report, snapshot
from trimtab.monitoring.frames import frames
from trimtab.monitoring.performance import Performance, measure
from trimtab.monitoring.profile import LABEL, Profile
from trimtab.monitoring.table import ParquetColumns
from trimtab.monitoring.verdict import Verdict, VerdictKind
from trimtab.recipe.drift import Drift

Array = np.ndarray
ALPHA, MAX_DAMAGE, MIN_LABELS = 0.01, 0.05, 50
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
ALL_ROWS = 10**9


def judged(window: ParquetColumns, profile: Profile, then: Mapping[str, Array]) -> tuple[Verdict, Comparison]:
    """The verdict on a file, with exact figures over all rows."""
    compared = compare(window, then, profile, ALPHA, Drift())
    performance = measure(window[PREDICTED], window[LABEL], CLASSES, profile.accuracy, MAX_DAMAGE, MIN_LABELS)
    kind: VerdictKind = "drift" if any(result.drifted for result in compared.results) else "healthy"
    if performance.answer == "damage":
        kind = "drift+damage" if kind == "drift" else "damage"
    return _verdict(kind, window.rows, compared, performance), compared


def _verdict(kind: VerdictKind, rows: int, compared: Comparison, performance: Performance) -> Verdict:
    return Verdict(kind, 0, rows, "1", rows, compared.results, performance, 0, 0, 0, 0, (kind,))


def verdict(path: Path, profile: Profile, then: Mapping[str, Array]) -> dict[str, Any]:
    """Our verdict alone."""
    found, _ = judged(ParquetColumns(path), profile, then)
    return {"scores": {column.name: column.score for column in found.columns}, "kind": found.kind}


def ours(path: Path, profile: Profile, then: Mapping[str, Array]) -> dict[str, Any]:
    """Our verdict, Evidently's JSON and the page."""
    window = ParquetColumns(path)
    found, compared = judged(window, profile, then)
    label = window[LABEL]
    shown, html = snapshot(
        window, then, profile, found, label, min_labels=MIN_LABELS, timestamp=WHEN, pairs=compared.pairs
    )
    return {"html": len(html), "json": len(shown.json()), **_answers(shown)}


def full(path: Path, profile: Profile, then: Mapping[str, Array]) -> dict[str, Any]:
    """Scores and answers of our tests in Evidently over all rows."""
    compared = compare(ParquetColumns(path), then, profile, ALPHA, Drift(), most=ALL_ROWS)
    return _answers(drift_report(frames(compared.pairs, compared.results), WHEN))


def evidently_alone(path: Path, profile: Profile, then: Mapping[str, Array]) -> dict[str, Any]:
    """Evidently as its documentation shows it, with every column's type said."""
    import pandas as pd

    engine = evidently()
    definition = engine.DataDefinition(
        numerical_columns=list(NAMES),
        categorical_columns=[PREDICTED, LABEL],
        classification=[engine.MulticlassClassification(target=LABEL, prediction_labels=PREDICTED)],
    )
    tables = pd.read_parquet(path), pd.DataFrame(dict(then))
    sides = [engine.Dataset.from_pandas(side, data_definition=definition) for side in tables]
    shown = engine.Report([engine.DataDriftPreset(), engine.ClassificationPreset()]).run(*sides)
    return {"html": len(shown.get_html_str(as_iframe=False)), "json": len(shown.json())}


def _answers(shown: Any) -> dict[str, Any]:
    """Score and threshold of every column, from Evidently's own results."""
    metrics = [
        metric for metric in shown.dict()["metrics"] if str(metric["config"].get("method", "")).startswith(PREFIX)
    ]
    return {
        "scores": {metric["config"]["column"]: float(metric["value"]) for metric in metrics},
        "limits": {metric["config"]["column"]: float(metric["config"]["threshold"]) for metric in metrics},
    }


MODES = {"evidently": evidently_alone, "ours": ours, "verdict": verdict, "full": full}


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=sorted(MODES))
    parser.add_argument("window", type=Path)
    parser.add_argument("seed", type=int)
    given = parser.parse_args()
    begin = time.perf_counter()
    import pandas as pd  # noqa: F401  # pyarrow imports it when it first gives a column to numpy
    import pyarrow.parquet  # noqa: F401
    import scipy.stats  # noqa: F401

    if given.mode != "verdict":
        evidently()
    ready = time.perf_counter()
    profile, then = reference(given.seed)
    imported, used = time.perf_counter(), time.process_time()
    found = MODES[given.mode](given.window, profile, then)
    seconds, cpu = time.perf_counter() - imported, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "cpu_s": cpu, "import_s": ready - begin, "rss_mb": peak, **found}))


if __name__ == "__main__":
    main()
