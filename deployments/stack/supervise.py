"""The supervisor: started as a daemon, driven through its XML-RPC interface."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import time
import xmlrpc.client
from dataclasses import dataclass
from typing import Any

import psutil

from deployments.environment import environment
from deployments.stack.config import MARKER, Door, config_path, read_door
from deployments.stack.services import PYTHON
from trimtab.errors import StateError
from trimtab.settings import Settings

STOPPED = ("STOPPED", "EXITED", "FATAL")
RPC_ERRORS = (OSError, http.client.HTTPException, xmlrpc.client.Error)
NO_SUCH_PROCESS, ALREADY_STARTED, NOT_RUNNING = 10, 60, 70  # supervisor.xmlrpc.Faults


@dataclass(frozen=True)
class ProcessInfo:
    """What the supervisor says of one server: state, process id (0: none), start and stop (seconds since 1970)."""

    state: str
    pid: int
    start: int
    stop: int


class _Transport(xmlrpc.client.Transport):
    """HTTP with a timeout: a supervisor that hangs must not hang its caller."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = 10.0
        return connection


class Supervisor:
    """A running supervisord."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._rpc: Any = xmlrpc.client.ServerProxy(door.url, transport=_Transport()).supervisor

    @classmethod
    def find(cls, settings: Settings) -> Supervisor | None:
        """The one that runs for this state directory, or None.

        A process that merely got its old port does not know the password and is not taken for it.
        """
        door = read_door(settings)
        if door is None:
            return None
        supervisor = cls(door)
        with contextlib.suppress(*RPC_ERRORS, psutil.Error):
            home = psutil.Process(supervisor.pid()).environ().get("TRIMTAB_HOME")
            return supervisor if home == str(settings.home) else None
        return None

    def pid(self) -> int:
        """Process id of supervisord."""
        return int(self._rpc.getPID())

    def processes(self) -> dict[str, ProcessInfo]:
        """Server name → its state."""
        found: list[dict[str, Any]] = self._rpc.getAllProcessInfo()
        return {p["name"]: ProcessInfo(p["statename"], p["pid"], p["start"], p["stop"]) for p in found}

    def update(self) -> list[str]:
        """Follow the written configuration: start what is new, restart what changed, drop what is gone.

        Returns:
            Names of the servers that were started, restarted or dropped.
        """
        added, changed, removed = self._rpc.reloadConfig()[0]
        for name in (*changed, *removed):
            self.stop(name)
            self._rpc.removeProcessGroup(name)
        for name in (*added, *changed):
            self._rpc.addProcessGroup(name)
        return [*added, *changed, *removed]

    def start_stopped(self) -> list[str]:
        """Start the servers that are stopped or given up; returns their names."""
        names = [name for name, info in self.processes().items() if info.state in STOPPED]
        for name in names:
            self._call(ALREADY_STARTED, self._rpc.startProcess, name, False)
        return names

    def stop(self, name: str) -> None:
        """Stop one server and wait until it is gone (SIGTERM, after its stop time SIGKILL)."""
        self._call(NOT_RUNNING, self._rpc.stopProcess, name, False)
        while self.processes()[name].pid:
            time.sleep(0.1)

    def shutdown(self) -> None:
        """Stop all servers at once, then the supervisor; returns when it is gone."""
        process = psutil.Process(self.pid())
        self._rpc.stopAllProcesses(False)
        while any(info.pid for info in self.processes().values()):
            time.sleep(0.1)
        self._rpc.shutdown()
        process.wait(timeout=30)

    def _call(self, harmless: int, method: Any, *arguments: Any) -> None:
        try:
            method(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != harmless:
                raise


def launch(settings: Settings, door: Door) -> Supervisor:
    """Start supervisord with the written configuration; it outlives this process.

    Args:
        settings: with the addresses that the servers are to have.

    Raises:
        StateError: it did not start.
    """
    settings.logs.mkdir(parents=True, exist_ok=True)
    command = [*PYTHON, "-m", "supervisor.supervisord", "-c", str(config_path(settings))]
    around = {**os.environ, **environment(settings), MARKER: "supervisor"}
    done = subprocess.run(command, env=around, cwd=settings.home, capture_output=True, text=True, check=False)
    supervisor = Supervisor(door)
    deadline = time.monotonic() + 15
    while done.returncode == 0 and time.monotonic() < deadline:
        with contextlib.suppress(*RPC_ERRORS):
            supervisor.pid()
            return supervisor
        time.sleep(0.05)
    raise StateError(
        f"the supervisor did not start (exit code {done.returncode}): {(done.stderr or done.stdout).strip()[-500:]}",
        where=str(settings.logs / "supervisor.log"),
        fix="read that log; `trimtab down` clears what is left over",
    )
