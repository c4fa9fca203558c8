"""On a recompression: each finalist beside the champion, at the figure that was too much, in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab import runtime
from trimtab.candidate import Converted
from trimtab.compress.assess import build_name
from trimtab.compress.search.points import MEMORY_NOISE
from trimtab.errors import UnsupportedError
from trimtab.targets import TARGETS
from trimtab.verify.latency import BASELINE, measure
from trimtab.verify.memory import footprints
from trimtab.verify.rival import Rival
from trimtab.watch import Watch
from trimtab.workbench import LEAST_SMALLER, Workbench

CHAMPION = "champion"


def against_champion(
    bench: Workbench,
    champion: int | None,
    builds: Sequence[Converted],
    predictors: Mapping[str, Any],
    original_size: int,
) -> dict[str, Rival]:
    """Build name → Rival; empty where this is no recompression.

    Args:
        predictors: by build name, loaded. original_size: bytes of the original's FP32 weights.

    Raises:
        UnsupportedError: memory is compared and one of them runs in a process of its own, which cannot be measured.
    """
    if bench.recompress is None or champion is None:
        return {}
    if bench.recompress.figure == "size":
        then = original_size / bench.recompress.size_ratio
        sizes = {build_name(build): build.size_bytes for build in builds}
        return {name: Rival("size", then, own, then / own, LEAST_SMALLER) for name, own in sizes.items()}
    folder, target = _champion(bench, champion)
    gate = bench.splits["gate"]
    if bench.recompress.figure == "latency":
        served = runtime.load(target, folder, bench.recipe.measure.threads)
        timings = measure(served, predictors, gate.inputs, bench.recipe.measure)
        batch = bench.recipe.measure.batch_sizes[0]
        served_ms, noise = 1e3 * timings.by_name[BASELINE][batch].p50_s, timings.noise_floor[batch]
        every = {name: timings.by_name[name][batch] for name in predictors}
        return {name: Rival("latency", served_ms, 1e3 * own.p50_s, own.speedup, noise) for name, own in every.items()}
    folders = {build_name(b): (b.target, bench.target_folder(b.candidate, b.target)) for b in builds}
    everyone = {**folders, CHAMPION: (target, folder)}
    for name, (runs_on, _) in everyone.items():
        if TARGETS[runs_on].load_worker:
            raise UnsupportedError(
                "its memory cannot be measured: it runs in a process of its own", where=f"{name} on {runs_on}"
            )
    settings = bench.recipe.measure
    costs = footprints(everyone, gate.inputs, max(settings.batch_sizes), settings.threads)
    then_mb = costs[CHAMPION].peak_mb
    return {
        name: Rival("memory", then_mb, costs[name].peak_mb, then_mb / max(costs[name].peak_mb, 0.1), MEMORY_NOISE - 1)
        for name in folders
    }


def _champion(bench: Workbench, champion: int) -> tuple[Any, str]:
    watch = Watch(bench.code.path, bench.settings)
    return watch.release(champion), watch.release_facts(champion)["target"]
