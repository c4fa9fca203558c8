"""Stage 2: the candidates that are worth converting, the original first."""

from __future__ import annotations

from tasks.bench import ReleaseRun
from tasks.candidates import made
from tasks.mixed import mixed
from tasks.search import searched
from trimtab.candidate import Candidate
from trimtab.compress.search import plan, replan
from trimtab.workbench import Workbench


def compress(bench: Workbench, run: ReleaseRun, original: Candidate) -> list[Candidate]:
    """What the search found; without a search every setting the recipe names; on a retrain what won the last time.

    What a method cannot do is logged by name, not hidden.
    """
    if run.finalists:
        plans = replan(run.finalists)
    elif bench.recipe.compress.search is not None:
        plans = searched(bench, run, original)
    else:
        plans = plan(bench.recipe.compress, bench.recipe.train.seed, bench.recipe.targets)
    candidates = [made(bench, original, steps) for steps in plans]
    found = [candidate for candidate in candidates if candidate is not None]
    return [*found, *mixed(bench, run, original, found)]
