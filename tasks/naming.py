"""Short names of flow runs: a recipe's folder, a verdict's first digits, a reason cut to a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefect.runtime import flow_run

WIDTH = 60


def run_name(template: str) -> Callable[[], str]:
    """A `flow_run_name` for Prefect: the template filled with the run's parameters, shortened for the UI."""

    def name() -> str:
        given = {key: str(value) for key, value in flow_run.parameters.items()}
        if "recipe" in given:
            given["recipe"] = Path(given["recipe"]).parent.name
        if "verdict" in given:
            given["verdict"] = given["verdict"][:12]
        filled = template.format(**given)
        return filled if len(filled) <= WIDTH else filled[: WIDTH - 1] + "…"

    return name
