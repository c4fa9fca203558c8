"""Stage 1: the original, trained by the recipe or taken with its weights."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.logging import get_run_logger

from tasks.caching import JSON_RESULT, content_key
from tasks.edges import after, ended, quoted
from tasks.progress import Progress
from tasks.search_original import SEARCHED, search_original
from trimtab.candidate import Candidate
from trimtab.compress.student import check_students
from trimtab.errors import StateError
from trimtab.model_check import check_model
from trimtab.optimize.augmenting import check_augment
from trimtab.optimize.optimizers import check_options
from trimtab.optimize.original import make_original, planned_original
from trimtab.serving.keeping import refuse_misfit
from trimtab.verify.attribution.explainer import check_explain
from trimtab.workbench import Workbench


@task(name="optimize", task_run_name="train the original", cache_key_fn=content_key("optimize"), **JSON_RESULT)
def train_original(bench: Workbench, warm_start: str | None, searched: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train the original, or take it as it came; a warm start begins from the weights of an earlier original."""
    done = bench.stored(planned_original(bench, warm_start, searched).id)
    if done is None:
        with Progress("training the original") as progress, bench.stopwatch.on("training"):
            done = bench.keep(make_original(bench, warm_start, progress.epoch, searched))
    return done.to_json()


def optimize(bench: Workbench, before: str | None = None, kept: str | None = None) -> Candidate:
    """Check that the model fits the task, search if the recipe says so, then train (or reuse what was trained).

    Args:
        before: of a retrain, the champion's original.
        kept: of a recompression, the original that is taken as it is.

    Raises:
        StateError: it is not in the store any more.
    """
    check_model(bench)
    check_options(bench.recipe.train)
    check_augment(bench)
    check_students(bench)
    check_explain(bench)
    refuse_misfit(bench.recipe.serving.journal.model_dump(mode="json"), bench.example)
    if kept is not None:
        return _kept(bench, kept)
    warm_start = _warm(bench, before)
    searched = search_original(bench, before, warm_start)
    planned = planned_original(bench, warm_start, searched)
    fresh = train_original.with_options(refresh_cache=bench.stored(planned.id) is None)
    state = fresh(*quoted(bench, warm_start, searched), wait_for=after(bench, SEARCHED), return_state=True)
    return Candidate.from_json(ended(bench, planned.id, state))


def _warm(bench: Workbench, before: str | None) -> str | None:
    """The original whose weights training starts from: that of the champion, where it is wanted and there."""
    if before is None or not bench.recipe.monitoring.retraining.warm_start:
        return None
    if bench.stored(before) is None:
        get_run_logger().warning(
            "the champion's original %s is not in the store any more: training starts from scratch", before[:12]
        )
        return None
    return before


def _kept(bench: Workbench, identity: str) -> Candidate:
    found = bench.stored(identity)
    if found is None:
        raise StateError(
            f"the uncompressed original {identity[:12]} is not there any more, or was changed",
            where=str(bench.settings.store),
            fix="put it back from a backup, or make a release: `trimtab release RECIPE`",
        )
    return found
