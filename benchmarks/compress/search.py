"""Our side: the stages of a release up to the selection, on a recipe, in this process; no gate and no registry.

    python -m benchmarks.compress.search RECIPE HOME OUT

OUT gets one JSON object: every build with its figures on validation, where its files are, and the minutes it took.
The Prefect API of the tasks and the MLflow tracking store are local files in HOME.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def run(recipe: str, home: str) -> dict[str, Any]:
    """Optimize, compress, convert, measure."""
    from prefect import flow

    from tasks.bench import open_bench, release_run
    from tasks.compress import compress
    from tasks.convert import convert
    from tasks.optimize import optimize
    from tasks.select import measured_builds

    @flow(name="bench-compress")
    def stages() -> dict[str, Any]:
        bench = open_bench(recipe, home, None)
        started = time.monotonic()
        with bench.exclusively(), release_run(bench, "benchmark") as release:
            original = optimize(bench, None)
            candidates = compress(bench, release, original)
            builds = convert(bench, candidates, bench.recipe.targets)
            found = measured_builds(bench, candidates, builds)
        by_id = {candidate.id: candidate for candidate in candidates}
        for point, build in zip(found["points"], builds, strict=True):
            point["folder"] = str(bench.target_folder(build.candidate, build.target))
            point["size_bytes"] = build.size_bytes
            point["steps"] = [[s.method, dict(s.parameters)] for s in by_id[build.candidate].lineage[1:]]
        return {"minutes": (time.monotonic() - started) / 60, "points": found["points"]}

    return stages()


def main(recipe: str, home: str, out: str) -> None:
    """Set the addresses before Prefect is imported, run, write."""
    folder = Path(home).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "TRIMTAB_MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    Path(out).write_text(json.dumps(run(recipe, home)))


if __name__ == "__main__":
    main(*sys.argv[1:4])
