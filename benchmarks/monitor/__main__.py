"""Evidently alone and ours in turn on the same Parquet windows; false alarms; power.

    make bench-monitor            (or: python -m benchmarks.monitor [--rounds 3] [--windows 1000] [--seed 0])

20 numeric columns, prediction and label; a reference of 5,000 rows. Every run is a process of its own, reading
included, imports not; the runs of a round come in random order, and the median of the rounds counts. What is shown of
false alarms and power is of the default methods; `--method` takes another one for all columns. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

from benchmarks.machine import commit, cpu
from benchmarks.monitor.alarms import false_alarms, power
from benchmarks.monitor.tables import write
from trimtab.recipe.drift import Drift, ForNumbers

SIZES = {10_000: ("evidently", "ours", "verdict"), 1_000_000: ("evidently", "ours", "verdict"), 10_000_000: ("ours",)}
SCORED = 1_000_000
# A large and a barely visible shift, so that both answers are among what is compared.
SHIFTS = {"c01": 0.2, "c02": 0.03}
ALARM_ROWS = (50, 100, 200, 1000, 100_000)
POWER_ROWS = 1000
LIMIT_S = 1800


def measured(mode: str, window: Path, seed: int) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.monitor.run", mode, str(window), str(seed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{window.stem} {mode}: {found['seconds']:.2f} s, {found['cpu_s']:.2f} s of CPU, {found['rss_mb']} MB",
        file=sys.stderr,
    )
    return found


def timed(folder: Path, sizes: list[int], rounds: int, seed: int) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """Runs by size and mode."""
    runs: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for rows in sizes:
        path = folder / f"{rows}.parquet"
        write(path, rows, seed, SHIFTS)
        runs[rows] = {mode: [] for mode in SIZES[rows]}
        for number in range(rounds):
            order = list(SIZES[rows])
            random.Random(number).shuffle(order)
            for mode in order:
                runs[rows][mode].append(measured(mode, path, seed))
        if rows != SCORED:
            path.unlink()
    return runs


def errors(full: dict[str, Any], summary: dict[str, Any]) -> tuple[float, bool]:
    """Largest error of a score over the larger of it and a tenth of its threshold; are all answers equal?"""
    worst, equal = 0.0, set(full["scores"]) == set(summary["scores"])
    for name, score in full["scores"].items():
        given, limit = summary["scores"][name], full["limits"][name]
        worst = max(worst, abs(given - score) / max(score, limit / 10))
        equal = equal and (score >= limit) == (given >= summary["limits"][name])
    return worst, equal


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench-monitor")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--windows", type=int, default=1000, help="simulated windows of a size; of 100,000 rows a third"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="*", choices=sorted(SIZES), default=sorted(SIZES))
    parser.add_argument("--method", choices=get_args(ForNumbers), help="for false alarms and power")
    given = parser.parse_args()
    rules = Drift(numeric=given.method) if given.method else Drift()
    with tempfile.TemporaryDirectory() as scratch:
        runs = timed(Path(scratch), given.sizes, given.rounds, given.seed)
        path = Path(scratch) / f"{SCORED}.parquet"
        worst, equal = (
            errors(measured("full", path, given.seed), runs[SCORED]["ours"][0]) if path.exists() else (None, None)
        )
    alarms = {}
    for rows in ALARM_ROWS if given.windows else ():
        alarms[str(rows)] = false_alarms(rows, given.windows if rows <= 1000 else given.windows // 3, given.seed, rules)
        print(f"false alarms at {rows} rows: {alarms[str(rows)]}", file=sys.stderr)

    def medians(mode: str, key: str = "seconds", digits: int = 3) -> dict[str, float]:
        found = {str(rows): modes[mode] for rows, modes in runs.items() if mode in modes}
        return {rows: round(statistics.median(run[key] for run in done), digits) for rows, done in found.items()}

    alone, ours = medians("evidently"), medians("ours")
    rss = medians("ours", "rss_mb", 0)
    if str(SCORED) in alone:
        rss[f"evidently_{SCORED}"] = medians("evidently", "rss_mb", 0)[str(SCORED)]
    result = {
        "commit": commit(),
        "cpu": cpu(),
        "evidently_s": alone,
        "ours_s": ours,
        "verdict_only_s": medians("verdict"),
        "import_s": {"evidently": medians("evidently", "import_s"), "verdict": medians("verdict", "import_s")},
        # Of all threads, user and system: what is left to compare where other work shares the machine.
        "cpu_s": {mode: medians(mode, "cpu_s") for mode in ("evidently", "ours", "verdict")},
        "ratio_1m": round(alone[str(SCORED)] / ours[str(SCORED)], 2) if str(SCORED) in alone else None,
        "rss_mb": rss,
        "max_score_error": worst,
        "verdicts_equal": equal,
        "false_alarms": alarms,
        f"power_{POWER_ROWS}": power(POWER_ROWS, given.windows, given.seed, rules) if given.windows else None,
        "rounds": given.rounds,
        "seed": given.seed,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
