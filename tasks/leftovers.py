"""Flow runs whose process was killed: whoever holds their lock knows that they are dead, and says so to Prefect."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Crashed


def crash_dead_runs(flow: str, recipe: str) -> int:
    """Mark other runs of a flow on this recipe that still say Running as Crashed.

    To be called under the lock that only one such run can hold: the others have no process any more. A terminal
    state is never overwritten (`force=False`).

    Returns:
        How many there were.
    """
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])), flow_run_filter=running, limit=200
        )
        dead = [
            run for run in found if str(run.id) != str(flow_run.get_id()) and run.parameters.get("recipe") == recipe
        ]
        for run in dead:
            client.set_flow_run_state(run.id, Crashed(message="its process was killed; a later run found it"))
            get_run_logger().warning("run %s had no process any more: Crashed", run.name)
    return len(dead)
