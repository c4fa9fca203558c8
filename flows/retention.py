"""Journal rows that are older than the recipe says, and that nothing needs any more, are deleted."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow

from tasks.monitor import open_watch, said
from tasks.naming import described, run_name
from tasks.retention import forget_old, in_words


@flow(name="retention", flow_run_name=run_name("retention {recipe}"), log_prints=False)
def retention(
    recipe: Annotated[str, described("Path of the recipe file.")],
    home: Annotated[str, described("State directory of the stack.")],
) -> dict[str, Any]:
    """Delete rows and labels older than serving.journal.retention_days; never what a window or reaction still needs."""
    watch = open_watch(recipe, home)
    days = watch.recipe.serving.journal.retention_days
    if days is None:
        return said("serving.journal.retention_days is null: everything is kept", {"deleted": None})
    forgotten = forget_old(watch, days)
    return said(in_words(forgotten, days), {"deleted": forgotten.to_json() if forgotten else None})
