"""Other runs of a flow on the same recipe: about to begin, killed with their process, or waiting in vain.

Whoever holds the lock that only one such run can hold knows that the others are dead, and says so to Prefect.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled, Crashed


def crash_dead_runs(flow: str, recipe: str, of: str = "recipe") -> int:
    """Mark other runs of a flow on this recipe that still say Running as Crashed.

    To be called under the lock that only one such run can hold: the others have no process any more. A terminal
    state is never overwritten (`force=False`).

    Args:
        of: the parameter that only one run at a time can have with this value, where it is not the recipe.

    Returns:
        How many there were.
    """
    with get_client(sync_client=True) as client:
        dead = _runs(client, flow, recipe, [StateType.RUNNING], of)
        for run in dead:
            client.set_flow_run_state(run.id, Crashed(message="its process was killed; a later run found it"))
            get_run_logger().warning("run %s had no process any more: Crashed", run.name)
    return len(dead)


def about_to_begin(flow: str, recipe: str) -> int:
    """How many runs of a flow on this recipe are asked for and have not begun: a process needs seconds to start."""
    with get_client(sync_client=True) as client:
        return len(_runs(client, flow, recipe, [StateType.SCHEDULED, StateType.PENDING]))


def cancel_waiting(run: str, why: str) -> bool:
    """Cancel a suspended flow run that nothing will resume; whether there was one."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_flow_run(UUID(run))
        except (ObjectNotFound, ValueError):  # deleted, or made where there was no run
            return False
        if found.state_type != StateType.PAUSED:
            return False
        client.set_flow_run_state(found.id, Cancelled(message=why))
        get_run_logger().info("run %s waited for nothing any more: Cancelled", found.name)
        return True


def _runs(
    client: SyncPrefectClient, flow: str, value: str, states: Sequence[StateType], of: str = "recipe"
) -> list[FlowRun]:
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))))
    found = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])), flow_run_filter=wanted, limit=200
    )
    return [run for run in found if str(run.id) != str(flow_run.get_id()) and run.parameters.get(of) == value]
