"""Before stage 1, where the recipe has a search: which settings and which architecture the original gets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.bench import release_key
from tasks.edges import ended, quoted
from tasks.progress import Progress
from trimtab.optimize.search import search
from trimtab.optimize.space import check_arguments, values_of
from trimtab.optimize.tried import Tried, choose, table
from trimtab.registry.tracking import Tracking
from trimtab.verify.architecture import speed_of
from trimtab.workbench import Workbench

SEARCHED = "search"  # the step that training waits for


@task(name="search", task_run_name="search for the original", cache_policy=NO_CACHE, persist_result=False)
def make_trials(bench: Workbench, warm_start: str | None) -> list[dict[str, Any]]:
    """The recipe's trials. Not cached here: the study on disk knows which are done."""
    log = get_run_logger()
    with Progress("searching") as progress, bench.stopwatch.on("training"):
        tried = search(
            bench,
            warm_start,
            partial(speed_of, bench),
            settled=lambda one: log.info("%s", one.in_words()),
            progress=progress,
        )
    return [one.to_json() for one in tried]


def search_original(bench: Workbench, before: str | None, warm_start: str | None) -> dict[str, Any] | None:
    """What the original is made with in place of the recipe's values; None if nothing is searched.

    A retrain does not search: it takes the values of the champion's original.

    Args:
        before: that original's candidate. warm_start: the same, if training starts from its weights.
    """
    wanted = bench.recipe.train.search
    if wanted is None:
        return None
    known = bench.stored(before) if before is not None else None
    if known is not None and (values := values_of(known, wanted)) is not None:
        get_run_logger().info("not searched again, taken from the champion's original: %s", values)
        return values
    check_arguments(bench)
    tried = [Tried.from_json(value) for value in _trials(bench, warm_start)]
    chosen = choose(tried, len(bench.splits["validation"]))
    assert chosen is not None  # `search` refuses a study without a complete trial
    get_run_logger().info("chosen of %d: %s", len(tried), chosen.in_words())
    _record(bench, tried, chosen)
    return dict(chosen.values)


def _trials(bench: Workbench, warm_start: str | None) -> list[dict[str, Any]]:
    state = make_trials(*quoted(bench, warm_start), return_state=True)
    trials: list[dict[str, Any]] = ended(bench, SEARCHED, state)
    return trials


def _record(bench: Workbench, tried: Sequence[Tried], chosen: Tried) -> None:
    """Every trial in the release's run in MLflow: one table, since a child run there is a build that may be served."""
    tracking = Tracking(bench.settings.tracking_uri(), bench.settings.locks)
    run_id = tracking.release_run(tracking.experiment(bench.recipe.name), release_key(bench))
    if run_id is not None:
        tracking.log_text(run_id, table(tried, chosen), "search/trials.csv")
        tracking.set_tags(run_id, {"trimtab.searched": json.dumps(dict(chosen.values))})
