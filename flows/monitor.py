"""collect → judge → record → publish: one window of the journal, if one is ready."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from tasks.monitor import catch_up, collect, judge, open_watch, publish, record, tidy
from tasks.naming import run_name


@flow(name="monitor", flow_run_name=run_name("monitor {recipe}"), log_prints=False)
def monitor(
    recipe: Annotated[str, Field(description="Path of the recipe file.")],
    home: Annotated[str, Field(description="State directory of the stack.")],
) -> dict[str, Any]:
    """Judge the next window of the journal and say what follows from it; start what an event lost."""
    watch = open_watch(recipe, home)
    tidy(watch)
    window = collect(watch)
    if window is None:
        return {"verdict": None, "state": "no window is ready", "started": catch_up(watch)}
    verdict = judge(watch, window)
    record(watch, verdict)
    decision = publish(watch, window, verdict)
    return {"verdict": verdict.kind, "digest": verdict.digest, "decision": decision.to_json()}
