"""The environment that every process of ours runs in: servers, worker, flows and commands see the same settings.

Prefect reads its settings once, at import: `apply` must run before `prefect` is imported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deployments.telemetry import TELEMETRY_OFF
from trimtab.settings import Settings

# The folder that holds flows/, tasks/, trimtab/ and deployments/: a clone, or site-packages.
PACKAGE_ROOT = Path(__file__).resolve().parents[1]

HEARTBEAT_S = 30  # the least Prefect accepts


def environment(settings: Settings) -> dict[str, str]:
    """Variables to lay over the inherited environment of a child process.

    Addresses that are not known are left out, so that a client says "no server" and does not start one of its own.
    """
    prefect = settings.home / "prefect"
    variables = {
        **TELEMETRY_OFF,
        "TRIMTAB_HOME": str(settings.home),
        "PYTHONPATH": _python_path(),
        **_loopback_without_proxy(),
        "PREFECT_HOME": str(prefect),
        # Otherwise the first start of a server writes its UI into site-packages.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(prefect / "ui"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(prefect / "results"),
        # In memory (the default) a restart of the server forgets who holds the slot of a deployment with a
        # concurrency limit, and the slot stays taken.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # Runs are created so far ahead; what was created is what can be missed while everything is down.
        "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT5M",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "30",
        # Each question costs the server time on a core that the served model needs: see decision 011.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        # By default a worker takes a run 10 s early; it would hold the slot of a limited deployment from then on, and
        # the run before it would still be there.
        "PREFECT_WORKER_PREFETCH_SECONDS": "0",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        # Our pyproject.toml names prefect: with `uv` on the PATH a worker would build an environment for each run.
        "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "trimtab",
        "PREFECT_CLI_PROMPT": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if settings.prefect_api_url:
        variables["PREFECT_API_URL"] = settings.prefect_api_url
    if settings.mlflow_tracking_uri:
        variables["MLFLOW_TRACKING_URI"] = settings.mlflow_tracking_uri
    return variables


def apply(settings: Settings) -> None:
    """Put the environment into this process; children inherit it.

    Raises:
        RuntimeError: Prefect was imported before with other settings, so they would be ignored.
    """
    variables = environment(settings)
    if "prefect" in sys.modules:
        changed = (name for name, value in variables.items() if os.environ.get(name) != value)
        stale = [name for name in changed if name.startswith("PREFECT_")]
        if stale:
            raise RuntimeError(f"prefect is already imported; these settings would be ignored: {', '.join(stale)}")
    os.environ.update(variables)


def _loopback_without_proxy() -> dict[str, str]:
    """NO_PROXY with loopback in it, where a proxy is set: our servers cannot be reached through one."""
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        return {}
    inherited = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hosts = dict.fromkeys([*(host.strip() for host in inherited.split(",") if host.strip()), "127.0.0.1", "localhost"])
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(hosts))


def _python_path() -> str:
    """The inherited PYTHONPATH, with our packages first where they are not installed in site-packages."""
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    ours = [] if PACKAGE_ROOT.name in ("site-packages", "dist-packages") else [str(PACKAGE_ROOT)]
    return os.pathsep.join(dict.fromkeys([*ours, *inherited]))
