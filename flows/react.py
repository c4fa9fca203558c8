"""A verdict's reaction: checked against ledger and registry first, begun in the ledger, then done."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, tags

from flows.release import release
from tasks.leftovers import crash_dead_runs
from tasks.monitor import said
from tasks.naming import described, run_name
from tasks.react import begin, choose, conclude, open_watch, reacting, why


@flow(name="react", flow_run_name=run_name("react {recipe}: verdict {verdict}"), log_prints=False)
def react(
    recipe: Annotated[str, described("Path of the recipe file.")],
    home: Annotated[str, described("State directory of the stack.")],
    verdict: Annotated[str, described("Digest of the verdict, as the ledger has it.")],
) -> dict[str, Any]:
    """Retrain when the verdict still calls for it; an event is only a hint."""
    watch = open_watch(recipe, home)
    with reacting(watch) as alone:
        if not alone:
            return said("another reaction is running", {"action": "none", "reason": "another reaction is running"})
        crash_dead_runs("react", recipe)
        decision = choose(watch, verdict)
        if decision.action != "retrain":
            return {"action": decision.action, "reason": decision.reason}
        begin(watch, decision)
        with tags(watch.name):  # not `trimtab`: of a failed reaction one alert is enough
            outcome = release(recipe, home, why(watch, decision), verdict, return_state=True)
        return conclude(watch, decision, outcome)
