"""`down` and `status`: stop everything that `up` started; say what runs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from deployments.stack.health import Progress, client, is_ready
from deployments.stack.leftovers import flow_runs, servers, stop
from deployments.stack.record import read_ports, remove_stack
from deployments.stack.services import addresses, services
from deployments.stack.supervise import ProcessInfo, Supervisor
from trimtab.errors import StateError
from trimtab.settings import Settings
from trimtab.store import os_lock


@dataclass(frozen=True)
class ServiceStatus:
    """One server as it is now.

    Attributes:
        state: the supervisor's word (RUNNING, STARTING, BACKOFF, FATAL, …), or DOWN without a supervisor.
        ready: it answers.
    """

    name: str
    state: str
    ready: bool
    pid: int | None
    url: str
    log: Path


def status(settings: Settings) -> list[ServiceStatus]:
    """What runs; empty where the stack was never started."""
    ports = read_ports(settings)
    if ports is None:
        return []
    supervisor = Supervisor.find(settings)
    processes = supervisor.processes() if supervisor else {}
    prefect = addresses(ports)["prefect_api_url"].removesuffix("/api")
    found = []
    with client() as http:
        for service in services(settings, ports):
            info = processes.get(service.name, ProcessInfo("DOWN", 0, 0, 0))
            ready = is_ready(http, service, info, prefect)
            log = settings.logs / f"{service.name}.log"
            found.append(ServiceStatus(service.name, info.state, ready, info.pid or None, service.url, log))
    return found


def down(settings: Settings, progress: Progress | None = None) -> bool:
    """Cancel what is in flight, stop every server and whatever an earlier `up` left behind.

    Returns:
        Whether anything ran.

    Raises:
        Conflict: another `up` or `down` of this state directory is running.
        StateError: the state directory cannot be written.
    """
    if not settings.home.is_dir():
        return False
    say = progress or (lambda service, state, seconds: None)
    with os_lock(settings.locks / "stack.lock", wait=False, what="`trimtab up` or `trimtab down`"):
        supervisor = Supervisor.find(settings)
        if supervisor:
            _finish_runs(settings, supervisor, say)
            say("all", "stopping", 0.0)
            supervisor.shutdown()
        left = [*servers(settings), *(process for run in flow_runs(settings).values() for process in run)]
        stop(left)
        remove_stack(settings)
    return bool(supervisor or left)


def _finish_runs(settings: Settings, supervisor: Supervisor, progress: Progress) -> None:
    """No run is left Running: cancel through the worker, stop it, and mark what its end left behind."""
    ports = read_ports(settings)
    if ports is None or not _is_ready(settings, "prefect"):
        return  # the worker of the next `up` marks what was left
    from deployments.stack.runs import cancel_all, crash_lost  # imports Prefect: seconds

    settings = settings.model_copy(update=addresses(ports))
    cancel_all(settings, progress)
    with contextlib.suppress(KeyError):
        supervisor.stop("worker")
    stop([process for run in flow_runs(settings).values() for process in run])
    crash_lost(settings)


def _is_ready(settings: Settings, name: str) -> bool:
    try:
        return any(service.ready for service in status(settings) if service.name == name)
    except StateError:
        return False
