"""A verdict's reaction: checked against ledger and registry first, begun in the ledger, then done."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.release import release
from tasks.naming import run_name
from tasks.react import begin, choose, conclude, open_watch, reacting


@flow(name="react", flow_run_name=run_name("react {recipe}: verdict {verdict}"), log_prints=False)
def react(
    recipe: Annotated[str, Field(description="Path of the recipe file.")],
    home: Annotated[str, Field(description="State directory of the stack.")],
    verdict: Annotated[str, Field(description="Digest of the verdict, as the ledger has it.")],
) -> dict[str, Any]:
    """Retrain when the verdict still calls for it; an event is only a hint."""
    watch = open_watch(recipe, home)
    with reacting(watch):
        decision = choose(watch, verdict)
        if decision.action != "retrain":
            return {"action": decision.action, "reason": decision.reason}
        begin(watch, decision)
        outcome = release(recipe, home, f"retrain: {decision.reason}", verdict, return_state=True)
        return conclude(watch, decision, outcome)
