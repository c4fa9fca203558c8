"""`up`: start the servers that are missing, wait until all are ready, write their addresses down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from deployments.stack.blank import lay_out
from deployments.stack.claims import Claims
from deployments.stack.config import new_door, write_config
from deployments.stack.guard import Guard
from deployments.stack.health import Progress, wait_ready
from deployments.stack.leftovers import servers, stop
from deployments.stack.own_token import keep_own_token
from deployments.stack.ports import USUAL, Ports, choose, is_free, with_backend, with_guard, with_pin, with_scoring
from deployments.stack.record import read_ports, remove_stack, write_ports, write_stack
from deployments.stack.services import Service, addresses, services
from deployments.stack.supervise import Supervisor, launch
from trimtab.errors import StateError
from trimtab.settings import Settings
from trimtab.store import os_lock

FOLDERS = ("prefect", "mlflow", "evidently", "logs", "supervisor")
Placed = Callable[[Settings], None]
ATTEMPTS = 3  # with other ports, where somebody took one between our look and the server's


@dataclass(frozen=True)
class Stack:
    """The running servers.

    Attributes:
        settings: with the addresses of these servers.
        reused: every server ran already; nothing was started.
        started: names of the servers that were started or restarted.
        seconds: service → seconds until it was ready.
        total_s: seconds of the whole `up`.
    """

    settings: Settings
    reused: bool
    started: tuple[str, ...]
    seconds: dict[str, float]
    total_s: float


def up(
    settings: Settings,
    progress: Progress | None = None,
    *,
    release: str | None = None,
    backend: str = "trimtab",
    guard: Guard | None = None,
    pin: str | None = None,
    wait_for_all: bool = True,
    placed: Placed | None = None,
) -> Stack:
    """Bring the stack up; what runs already is kept.

    Args:
        progress: called as (service, state, seconds), at least every two seconds for each that is waited for.
        release: name of a release to serve from now on, beside those that an earlier `up` was given.
        backend: what serves it: "trimtab", or "mlflow" for stock `mlflow models serve`.
        guard: how its service is guarded from now on; None: as it was.
        pin: what a service called `release` serves, e.g. "digits/3" or "digits@challenger"; None: the champion of its
            own name.
        wait_for_all: False: return when what a release needs is ready (Prefect, MLflow, scoring); the worker and the
            Evidently UI go on starting.
        placed: called with the addresses as soon as they are chosen, before the servers start there; again, with
            others, where a port was taken by somebody else in between.

    Raises:
        StateError: the state directory, a certificate or the tokens cannot be used, addresses are fixed by the
            environment, or a server fails (the end of its log is in the message).
        Conflict: another `up` or `down` of this state directory is running.
    """
    begin = time.monotonic()
    _refuse_fixed_addresses()
    settings.ensure_home()
    with os_lock(settings.locks / "stack.lock", wait=False, what="`trimtab up` or `trimtab down`"):
        known = read_ports(settings)
        last = known or USUAL
        if release:
            last = with_pin(with_backend(last, release, backend), release, pin)
        if release and guard is not None:
            guard.check()
            keep_own_token(settings, guard)
            last = with_guard(last, release, guard)
        supervisor = Supervisor.find(settings)
        say = progress or (lambda service, state, seconds: None)
        if supervisor and known:
            with Claims() as claims:
                ports = with_scoring(last, release, free=claims.take) if release else last
                if placed:
                    placed(settings.model_copy(update=addresses(ports)))
                ready, seconds, started = _join(settings, supervisor, ports, say, wait_for_all)
        else:
            ready, seconds, started = _start(settings, last, release, say, wait_for_all, placed)
    return Stack(ready, not started, tuple(started), seconds, time.monotonic() - begin)


def _join(
    settings: Settings, supervisor: Supervisor, ports: Ports, progress: Progress, wait_for_all: bool
) -> tuple[Settings, dict[str, float], list[str]]:
    """Go on with the supervisor that runs."""
    settings = settings.model_copy(update=addresses(ports))
    wanted = services(settings, ports)
    write_ports(settings, ports)
    write_config(settings, supervisor.door, wanted)
    started = [*supervisor.update(), *supervisor.start_stopped()]
    write_stack(settings, ports, supervisor.door, supervisor.pid())
    return settings, wait_ready(settings, supervisor, _awaited(wanted, wait_for_all), progress), started


def _start(
    settings: Settings,
    last: Ports,
    release: str | None,
    progress: Progress,
    wait_for_all: bool,
    placed: Placed | None,
) -> tuple[Settings, dict[str, float], list[str]]:
    """Start a supervisor and all servers, after stopping what an earlier one left behind."""
    for folder in FOLDERS:
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    stop(servers(settings))
    lay_out(settings)
    releases = dict.fromkeys([*last.scoring, *([release] if release else [])])
    for attempt in range(1, ATTEMPTS + 1):
        with Claims() as claims:
            ports = choose(last, releases, claims.take)
            here = settings.model_copy(update=addresses(ports))
            wanted = services(here, ports)
            if placed:
                placed(here)
            try:
                seconds = _launch_and_wait(here, ports, wanted, progress, wait_for_all)
                return here, seconds, [service.name for service in wanted]
            except StateError:
                stop(servers(settings))
                remove_stack(settings)
                if attempt == ATTEMPTS or all(is_free(port) for port in ports.all()):
                    raise
    raise AssertionError("unreachable")


def _launch_and_wait(
    settings: Settings, ports: Ports, wanted: list[Service], progress: Progress, wait_for_all: bool
) -> dict[str, float]:
    door = new_door(ports.supervisor)
    write_ports(settings, ports)
    write_config(settings, door, wanted)
    supervisor = launch(settings, door)
    write_stack(settings, ports, door, supervisor.pid())
    return wait_ready(settings, supervisor, _awaited(wanted, wait_for_all), progress)


def _awaited(services: list[Service], every: bool) -> list[Service]:
    return [service for service in services if every or service.needed]


def _refuse_fixed_addresses() -> None:
    fixed = [name for name in ("TRIMTAB_PREFECT_API_URL", "TRIMTAB_MLFLOW_TRACKING_URI") if name in os.environ]
    if fixed:
        raise StateError(
            "the environment names servers to use, and local ones would not be used",
            where=", ".join(fixed),
            fix="unset these variables, or do without `trimtab up`",
        )
