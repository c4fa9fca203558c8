"""Flow runs around a start or a stop of the worker: none is left Running, and missed ones do not start in a burst."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectAlreadyExists

from deployments.prefect_api import prefect_client
from deployments.stack.health import Progress
from deployments.stack.leftovers import flow_runs
from deployments.stack.services import POOL
from trimtab.settings import Settings

IN_FLIGHT = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
CANCEL_S = 20.0


def ensure_pool(client: SyncPrefectClient) -> None:
    """Create the process work pool unless it is there."""
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    except ObjectAlreadyExists:
        return


def cancel_all(settings: Settings, progress: Progress, wait_s: float = CANCEL_S) -> None:
    """Ask the worker to cancel every run in flight, and wait for it (at most `wait_s` seconds)."""
    begin = time.monotonic()
    with prefect_client(settings) as client:
        while (left := _runs(client, IN_FLIGHT)) and time.monotonic() - begin < wait_s:
            for run in left:  # also those that the worker took meanwhile
                if run.state_type != StateType.CANCELLING:
                    going = State(type=StateType.CANCELLING, message="The stack is going down")
                    client.set_flow_run_state(run.id, going)
            names = ", ".join(run.name for run in left)
            progress("worker", f"cancelling {names}", time.monotonic() - begin)
            time.sleep(0.5)


def crash_lost(settings: Settings) -> list[UUID]:
    """Mark as Crashed every run in flight whose process is gone, also after `kill -9`; frees its concurrency slot.

    Right because the pool's only worker runs on this machine and is not running while this is called.
    """
    alive = flow_runs(settings)
    message = "Its process is gone: the worker or the machine was stopped while it ran"
    with prefect_client(settings) as client:
        lost = [run.id for run in _runs(client, IN_FLIGHT) if str(run.id) not in alive]
        for identity in lost:
            client.set_flow_run_state(identity, State(type=StateType.CRASHED, message=message))
    return lost


def skip_missed(settings: Settings) -> list[UUID]:
    """Of the scheduled runs that nobody started in time, keep the last of each deployment and cancel the others.

    Runs that a person or an automation asked for are kept.
    """
    now = datetime.now(UTC)
    due = FlowRunFilterNextScheduledStartTime.model_validate({"before_": now})
    message = "Missed while no worker was running; only the last missed run is made up for"
    skipped = []
    with prefect_client(settings) as client:
        late = [run for run in _runs(client, [StateType.SCHEDULED], due) if run.auto_scheduled]
        late.sort(key=lambda run: run.next_scheduled_start_time or now)
        last = {run.deployment_id: run.id for run in late}
        for run in late:
            if last[run.deployment_id] != run.id:
                client.set_flow_run_state(run.id, State(type=StateType.CANCELLED, name="Skipped", message=message))
                skipped.append(run.id)
    return skipped


def _runs(
    client: SyncPrefectClient, states: list[StateType], due: FlowRunFilterNextScheduledStartTime | None = None
) -> list[FlowRun]:
    """Every run of our pool in one of the states (the API gives 200 at a time)."""
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)), next_scheduled_start_time=due
    )
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=wanted, work_pool_filter=pool, limit=200, offset=len(found)):
        found.extend(page)
    return found
