"""A verdict's reaction: checked against ledger and registry first, approved where that is asked for, then done."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, suspend_flow_run, tags

from flows.release import release
from tasks.leftovers import crash_dead_runs
from tasks.monitor import said
from tasks.naming import described, run_name
from tasks.react import ask, begin, choose, conclude, open_watch, reacting, resumed, roll_back, why


@flow(name="react", flow_run_name=run_name("react {recipe}: verdict {verdict}"), log_prints=False)
def react(
    recipe: Annotated[str, described("Path of the recipe file.")],
    home: Annotated[str, described("State directory of the stack.")],
    verdict: Annotated[str, described("Digest of the verdict, as the ledger has it.")],
) -> dict[str, Any]:
    """Retrain, recompress or roll back when the verdict still calls for it; an event is only a hint."""
    watch = open_watch(recipe, home)
    with reacting(watch) as alone:
        if not alone:
            return said("another reaction is running", {"action": "none", "reason": "another reaction is running"})
        crash_dead_runs("react", recipe)
        resumed(watch, verdict)
        decision = choose(watch, verdict)
        if not decision.acts:
            return {"action": decision.action, "reason": decision.reason}
        if decision.needs_approval:
            ask(watch, decision)
            suspend_flow_run()  # ends this process; a click on Resume runs the flow anew
        begin(watch, decision)
        if decision.action == "rollback":
            return conclude(watch, decision, roll_back(watch, decision))
        retrain, recompress = (verdict if decision.action == act else None for act in ("retrain", "recompress"))
        with tags(watch.name):  # not `trimtab`: of a failed reaction one alert is enough
            outcome = release(recipe, home, why(watch, decision), retrain, recompress, return_state=True)
        return conclude(watch, decision, outcome)
