"""The copy of the history in MLflow: on each version's page, and the mark of the last entry on the registered model.

The ledger is the truth and comes first. What MLflow shows is brought up to date after it; a crash in between leaves an
old mark, and the next promotion, rollback or release writes the rest.
"""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trimtab.registry import history, versions
from trimtab.registry.connection import Registry
from trimtab.registry.failpoint import around
from trimtab.registry.history import Change, Mark
from trimtab.registry.promotions import stream

MARK_TAG = "trimtab.history"
LONGEST_PAGE = 5000
HEADING = "\n\n## History\n\n"


def mark_of(client: MlflowClient, name: str) -> Mark | None:
    """The last entry that MLflow was told of; None if of none."""
    try:
        return Mark.parse(client.get_registered_model(name).tags.get(MARK_TAG))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def renew(registry: Registry, name: str) -> list[str]:
    """Bring the pages up to date with the ledger; nothing is asked but the mark if they are.

    Returns:
        What shows that the ledger was changed behind our back; then nothing is overwritten.
    """
    entries = registry.ledger.read(stream(name))
    if not entries:
        return []
    mark, last = mark_of(registry.client, name), Mark(entries[-1].seq, entries[-1].hash)
    if mark == last:
        return []
    if found := history.tampering(registry.ledger, name, mark):
        return found
    every = history.changes(registry.ledger, name)
    news = [change for change in every if mark is None or change.seq >= mark.seq]
    for version in sorted({number for change in news for number in (change.before, change.after) if number}):
        _write(registry, name, version, every)
    with around("promote.page_mark"):
        registry.client.set_registered_model_tag(name, MARK_TAG, str(last))
    return []


def with_history(description: str, changes: list[Change]) -> str:
    """The page with its history renewed; what is above it stays.

    MLflow's description holds 5,000 characters (on PostgreSQL a longer one is an error): the oldest changes go first.
    """
    above = description.partition(HEADING)[0]
    if not changes:
        return above
    for first in range(len(changes)):
        older = f"\n{first} older: `trimtab history`" if first else ""
        page = f"{above}{HEADING}{history.to_markdown(changes[first:])}{older}\n"
        if len(page) <= LONGEST_PAGE:
            return page
    return above[:LONGEST_PAGE]


def _write(registry: Registry, name: str, version: int, every: list[Change]) -> None:
    found = versions.find(registry.client, name, version)
    if found is None:  # deleted since; its page is gone
        return
    wanted = with_history(found.description or "", [one for one in every if version in (one.before, one.after)])
    if wanted != found.description:
        with around("promote.page"):
            registry.client.update_model_version(name, str(version), wanted)
