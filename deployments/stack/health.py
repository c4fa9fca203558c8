"""When a server is ready: it answers over HTTP (the worker: Prefect's API says it is online; another: by its beat)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import httpx
import psutil

from deployments.hands.beat import beats
from deployments.stack.config import MARKER
from deployments.stack.services import POOL, Service
from deployments.stack.supervise import ProcessInfo, Supervisor
from trimtab.errors import StateError
from trimtab.settings import Settings

Progress = Callable[[str, str, float], None]  # service, state, seconds since the start

POLL_S = 0.2
SAY_S = 2.0  # a service that is waited for is named so often
TIMEOUT_S = 300.0  # a first start on a busy machine; a server that fails is noticed long before


def client() -> httpx.Client:
    """A client for loopback: no proxy of the environment between us and our servers.

    No certificate is verified: nothing secret is sent, and that it is our process that listens is seen by its pid.
    """
    return httpx.Client(timeout=2.0, trust_env=False, verify=False)


def is_ready(http: httpx.Client, service: Service, info: ProcessInfo, prefect: str) -> bool:
    """Whether the server does its work now.

    Args:
        info: what the supervisor says of it.
        prefect: base address of the Prefect server.
    """
    if not info.pid:
        return False
    with contextlib.suppress(httpx.HTTPError, ValueError):
        if service.url:
            answers = http.get(service.url + service.health).status_code in service.alive
            return answers and _listens(info.pid, int(service.url.rpartition(":")[2]))
        return beats(service.beat, info.start) if service.beat else _worker_online(http, prefect, info.start)
    return False


def wait_ready(
    settings: Settings, supervisor: Supervisor, services: Sequence[Service], progress: Progress
) -> dict[str, float]:
    """Wait until every server is ready.

    Returns:
        Service → seconds until it was.

    Raises:
        StateError: one ended twice, was given up, or took too long; its last log lines are in the message.
    """
    begin = time.monotonic()
    prefect = next(service.url for service in services if service.name == "prefect")
    ready: dict[str, float] = {}
    spoken: dict[str, float] = {}
    starts: dict[str, set[int]] = {service.name: set() for service in services}
    with client() as http:
        while len(ready) < len(services):
            processes = supervisor.processes()
            for service in (service for service in services if service.name not in ready):
                seconds = time.monotonic() - begin
                info = processes[service.name]
                _refuse_failed(settings, service.name, info, starts[service.name], seconds)
                if is_ready(http, service, info, prefect):
                    ready[service.name] = seconds
                    progress(service.name, "ready", seconds)
                elif seconds - spoken.get(service.name, -SAY_S) >= SAY_S:
                    spoken[service.name] = seconds
                    progress(service.name, "starting" if len(starts[service.name]) < 2 else "restarting", seconds)
            time.sleep(POLL_S)
    return ready


def last_lines(path: Path, count: int = 20) -> str:
    """The end of a log."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 16_384))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-count:])
    except OSError as error:
        return f"(no log: {error.strerror})"


def _refuse_failed(settings: Settings, name: str, info: ProcessInfo, starts: set[int], seconds: float) -> None:
    if info.pid:
        starts.add(info.start)
    if info.state == "FATAL" or len(starts) > 2:
        problem = "does not stay up"
    elif seconds > TIMEOUT_S:
        problem = f"was not ready after {seconds:.0f} s"
    else:
        return
    log = settings.logs / f"{name}.log"
    raise StateError(
        f"the {name} server {problem}; the end of its log:\n{last_lines(log)}",
        where=str(log),
        fix="mend what the log names, then `trimtab up` again",
    )


def _listens(pid: int, port: int) -> bool:
    """Whether a server of this stack listens there, and not somebody else's who took the port a moment before.

    The one that listens need not be a child of `pid`: after `kill -9` of a server its worker may live on and answer.
    It is known by the environment all processes of a server share: state directory and marker.
    """
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if any(_has_port(one, port) for one in (process, *process.children(recursive=True))):
            return True
        own = process.environ()
        return MARKER in own and any(
            _same_server(other, own) and _has_port(other, port) for other in psutil.process_iter()
        )
    return False


def _has_port(process: psutil.Process, port: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(c.laddr.port == port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
    return False


def _same_server(process: psutil.Process, own: dict[str, str]) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        variables = process.environ()
        return all(variables.get(name) == own.get(name) for name in ("TRIMTAB_HOME", MARKER))
    return False


def _worker_online(http: httpx.Client, prefect: str, started: int) -> bool:
    answer = http.post(f"{prefect}/api/work_pools/{POOL}/workers/filter", json={})
    if answer.status_code != 200:
        return False
    # A worker that was killed counts as online for a while: only a heartbeat of this process counts.
    beats = [worker["last_heartbeat_time"] for worker in answer.json() if worker["status"] == "ONLINE"]
    return any(datetime.fromisoformat(beat.replace("Z", "+00:00")).timestamp() >= started for beat in beats)
