"""Clear what dead releases left in the registry, and settle promotions that were cut short."""

from __future__ import annotations

from typing import Annotated

from prefect import flow

from tasks.monitor import said
from tasks.naming import described, run_name
from tasks.sweep import sweep_registry


@flow(name="sweep", flow_run_name=run_name("sweep {recipe}"), log_prints=False)
def sweep(
    recipe: Annotated[str, described("Path of the recipe file.")],
    home: Annotated[str, described("State directory of the stack.")],
) -> list[str]:
    """Sweep the registry; what was done is in the log."""
    done = sweep_registry(recipe, home)
    return said(f"{len(done)} things mended" if done else "nothing to mend", {"done": done})
