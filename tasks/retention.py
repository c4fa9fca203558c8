"""Retention of the journal as a task: compact first, then delete what is old and needed by nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.edges import ended, quoted
from trimtab.errors import Conflict
from trimtab.journal.compact import compact
from trimtab.journal.forget import Forgotten, forget
from trimtab.watch import Watch


@task(name="forget", task_run_name="delete rows older than {days} days", cache_policy=NO_CACHE)
def forget_rows(watch: Watch, days: int) -> Forgotten | None:
    """Delete rows and labels of days before the last `days` ones; None while a reaction runs, which may read them.

    None may begin, either, between the question what is needed and the deletion of the rest. Proposals that nobody
    approved in time hold no rows any more.
    """
    compact(watch.journal)
    before = datetime.now(UTC).date() - timedelta(days=days)
    try:
        with watch.reacting():
            watch.expire()
            forgotten = forget(watch.journal, before, watch.needed_from())
    except Conflict as other:
        get_run_logger().info("%s", other)
        return None
    get_run_logger().info("%s: %s", watch.name, in_words(forgotten, days))
    return forgotten


def forget_old(watch: Watch, days: int) -> Forgotten | None:
    """What was deleted; None if a reaction runs."""
    state = forget_rows(*quoted(watch, days), return_state=True)
    forgotten: Forgotten | None = ended(watch, "forget", state)
    return forgotten


def in_words(forgotten: Forgotten | None, days: int) -> str:
    """One sentence."""
    if forgotten is None:
        return "a reaction is running: nothing is deleted now, the next run does"
    text = (
        f"{forgotten.rows} rows and {forgotten.labels} labels older than {days} days deleted, "
        f"{forgotten.bytes / 1e6:.1f} MB freed"
    )
    if forgotten.kept_for_need:
        text += f"; {forgotten.kept_for_need} as old stay, for windows or reactions that still need them"
    return text
