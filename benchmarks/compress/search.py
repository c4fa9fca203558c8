"""Our side: the stages of a release up to the selection, on a recipe, in this process; no gate and no registry.

    python -m benchmarks.compress.search RECIPE HOME OUT

OUT gets one JSON object: every build with its figures on validation, where its files are, and the minutes it took.
HOME is the state directory of a running stack.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from trimtab.settings import Settings


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
    """Run on the stack of this state directory (`trimtab up`), write."""
    settings = Settings.load(Path(home))
    os.environ["PREFECT_API_URL"] = str(settings.prefect_api_url)  # before Prefect is imported
    Path(out).write_text(json.dumps(run(recipe, home)))


if __name__ == "__main__":
    main(*sys.argv[1:4])
