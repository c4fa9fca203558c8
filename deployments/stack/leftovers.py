"""Processes of ours that nobody supervises any more, e.g. after `kill -9` of the supervisor.

A process is known by its environment (the state directory and the marker the configuration gives each server), which
no later process with the same pid can have by chance.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import psutil

from deployments.stack.config import MARKER
from trimtab.settings import Settings

FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # Prefect puts it into the environment of the process of a flow run
TERM_S = 8.0


def servers(settings: Settings) -> list[psutil.Process]:
    """Living servers of this state directory, the supervisor among them; flow runs are not."""
    return [process for process, variables in _ours(settings) if FLOW_RUN not in variables]


def flow_runs(settings: Settings) -> dict[str, list[psutil.Process]]:
    """Flow run id → the living processes of that run."""
    found: dict[str, list[psutil.Process]] = {}
    for process, variables in _ours(settings):
        if FLOW_RUN in variables:
            found.setdefault(variables[FLOW_RUN], []).append(process)
    return found


def stop(processes: Sequence[psutil.Process]) -> None:
    """SIGTERM, then SIGKILL to those that are still there; returns when all are gone."""
    for process in processes:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(list(processes), timeout=TERM_S)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=TERM_S)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return


def _ours(settings: Settings) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    me = psutil.Process()
    mine = {os.getpid(), *(parent.pid for parent in me.parents())}
    for process in psutil.process_iter():
        try:
            variables = process.environ()
        except (psutil.Error, OSError):  # another user's, or gone
            continue
        same_home = variables.get("TRIMTAB_HOME") == str(settings.home)
        if same_home and MARKER in variables and process.pid not in mine:
            yield process, variables
