"""collect → judge → record → publish: windows that late labels re-opened, then the next one, if it is ready."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow

from tasks.catching_up import catch_up
from tasks.monitor import collect, judge, late, open_watch, publish, record, said, tidy
from tasks.naming import described, run_name


@flow(name="monitor", flow_run_name=run_name("monitor {recipe}"), log_prints=False)
def monitor(
    recipe: Annotated[str, described("Path of the recipe file.")],
    home: Annotated[str, described("State directory of the stack.")],
) -> dict[str, Any]:
    """Judge the next window of the journal and say what follows from it; start what an event lost."""
    watch = open_watch(recipe, home)
    tidy(watch)
    started = catch_up(watch)
    reopened = []
    for window in late(watch):
        again = judge(watch, window)
        record(watch, again)
        publish(watch, window, again)
        reopened.append({"verdict": again.kind, "digest": again.digest, "lo": again.lo, "hi": again.hi})
    found = collect(watch)
    if found.window is None:
        return said(found.state, {"verdict": None, "state": found.state, "started": started, "reopened": reopened})
    verdict = judge(watch, found.window)
    record(watch, verdict)
    decision = publish(watch, found.window, verdict)
    message = f"{verdict.kind}: rows {verdict.lo}–{verdict.hi} → {decision.action}"
    summary = {"verdict": verdict.kind, "digest": verdict.digest, "decision": decision.to_json(), "reopened": reopened}
    return said(message, summary)
