"""Words that the Prefect UI shows: short names of flow runs, and what a field of a run's form is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.context import TagsContext
from prefect.runtime import flow_run
from pydantic import Field

WIDTH = 60


def described(text: str) -> Any:
    """The description of a flow's parameter, for `Annotated`: Prefect 3.9.1 shows only what is in the extra schema."""
    return Field(json_schema_extra={"description": text})


def run_name(template: str) -> Callable[[], str]:
    """A `flow_run_name` for Prefect: the template filled with the run's parameters, shortened for the UI.

    A recipe is named by its folder, a verdict by its first digits.
    """

    def name() -> str:
        given = {key: str(value) for key, value in flow_run.parameters.items()}
        if "recipe" in given:
            given["recipe"] = Path(given["recipe"]).parent.name
        if "verdict" in given:
            given["verdict"] = given["verdict"][:12]
        filled = template.format(**given)
        return filled if len(filled) <= WIDTH else filled[: WIDTH - 1] + "…"

    return name


def untagged() -> TagsContext:
    """A block in which tasks do not take on the tags of the flow that runs them.

    For each tagged task run Prefect 3.9.1 asks the server for a slot of a concurrency limit, one a tag. On SQLite that
    write is refused when another one is under way, and the client tries again after two seconds: ten in a release.
    """
    return TagsContext(current_tags=set())
