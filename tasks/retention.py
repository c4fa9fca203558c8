"""Retention of the journals as a task, champion's and challengers': compact, then delete what is old and not needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.edges import ended, quoted
from trimtab.errors import Conflict
from trimtab.journal import reader
from trimtab.journal.compact import compact
from trimtab.journal.forget import Forgotten, forget
from trimtab.journal.resting import close_resting
from trimtab.watch import Watch


@dataclass(frozen=True)
class Deleted:
    """What was deleted of the journal that the watch judges, and of the challengers'."""

    champion: Forgotten
    challenger: Forgotten

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**self.champion.to_json(), "challenger": self.challenger.to_json()}


@task(name="forget", task_run_name="delete rows older than {days} days", cache_policy=NO_CACHE)
def forget_rows(watch: Watch, days: int) -> Deleted | None:
    """Delete rows and labels of days before the last `days` ones; None while a reaction runs, which may read them.

    None may begin, either, between the question what is needed and the deletion of the rest. Proposals that nobody
    approved in time hold no rows any more. Of what challengers answered nothing is needed: no window is judged of it.
    """
    before = datetime.now(UTC).date() - timedelta(days=days)
    for folder in (watch.journal, watch.challenger_journal):
        close_resting(folder, before)
        compact(folder)
    try:
        with watch.reacting():
            watch.expire()
            champion = forget(watch.journal, before, watch.needed_from())
    except Conflict as other:
        get_run_logger().info("%s", other)
        return None
    deleted = Deleted(champion, forget(watch.challenger_journal, before, reader.end(watch.challenger_journal)))
    get_run_logger().info("%s: %s", watch.name, in_words(deleted, days))
    return deleted


def forget_old(watch: Watch, days: int) -> Deleted | None:
    """What was deleted; None if a reaction runs."""
    state = forget_rows(*quoted(watch, days), return_state=True)
    deleted: Deleted | None = ended(watch, "forget", state)
    return deleted


def in_words(deleted: Deleted | None, days: int) -> str:
    """One sentence."""
    if deleted is None:
        return "a reaction is running: nothing is deleted now, the next run does"
    champion, challenger = deleted.champion, deleted.challenger
    text = (
        f"{champion.rows} rows and {champion.labels} labels older than {days} days deleted, "
        f"{(champion.bytes + challenger.bytes) / 1e6:.1f} MB freed"
    )
    if challenger.rows or challenger.labels:
        text += f"; of challengers {challenger.rows} rows and {challenger.labels} labels"
    if champion.kept_for_need:
        text += f"; {champion.kept_for_need} as old stay, for windows or reactions that still need them"
    return text
