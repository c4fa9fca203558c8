"""What the stack consists of: one entry a server, with its command line and how to see that it is ready."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.hands.beat import beat_file
from deployments.stack.guard import Guard
from deployments.stack.ports import HOST, Ports
from trimtab.serving.limits import LONGEST_DRAIN_S
from trimtab.settings import Settings

POOL = "trimtab"
# -P: the folder a server runs in must not come before our packages on sys.path.
PYTHON = (sys.executable, "-P")
RUN = (*PYTHON, "-m", "deployments.stack.launch")


@dataclass(frozen=True)
class Service:
    """One supervised server.

    Attributes:
        name: also the name of its log and of its supervisor program.
        command: argument vector.
        url: base address, "" for those that listen nowhere.
        health: path that answers when it is ready.
        alive: HTTP statuses that count as ready.
        stop_s: seconds between SIGTERM and SIGKILL.
        needed: by a release; the others start beside one.
        beat: file of a server that listens nowhere, which it touches while it does its work.
    """

    name: str
    command: tuple[str, ...]
    url: str = ""
    health: str = ""
    alive: tuple[int, ...] = (200,)
    stop_s: int = 10
    needed: bool = True
    beat: Path | None = None


def services(settings: Settings, ports: Ports) -> list[Service]:
    """The servers of this state directory, in the order in which a person thinks of them."""
    return [
        _prefect(ports),
        _mlflow(settings, ports),
        Service("worker", (*RUN, "deployments.stack.worker"), stop_s=15, needed=False),
        _evidently(settings, ports),
        _registry_watch(settings, ports),
        *(_scoring(settings, ports, release) for release in ports.scoring),
    ]


def scoring_name(release: str) -> str:
    """Name of the service that serves a release."""
    return f"scoring-{release}"


def addresses(ports: Ports) -> dict[str, Any]:
    """The addresses as `trimtab.settings.Settings` names them."""
    return {
        "prefect_api_url": f"http://{HOST}:{ports.prefect}/api",
        "mlflow_tracking_uri": f"http://{HOST}:{ports.mlflow}",
        "evidently_url": f"http://{HOST}:{ports.evidently}",
        "scoring": {release: _scoring_url(ports, release) for release in ports.scoring},
        "scoring_certificates": {
            release: guard.certificate for release in ports.scoring if (guard := guard_of(ports, release)).certificate
        },
    }


def guard_of(ports: Ports, release: str) -> Guard:
    """How a scoring service is guarded: one that is pinned as that of the release it serves; a stock server is not."""
    if release in ports.stock:
        return Guard()
    served = ports.pinned.get(release, release).partition("@")[0].partition("/")[0]
    return Guard.from_json(ports.guards.get(release) or ports.guards.get(served, {}))


def _scoring_url(ports: Ports, release: str) -> str:
    return f"{guard_of(ports, release).scheme}://{HOST}:{ports.scoring[release]}"


def _prefect(ports: Ports) -> Service:
    command = (*RUN, "prefect", "server", "start", "--host", HOST, "--port", str(ports.prefect))
    return Service("prefect", command, f"http://{HOST}:{ports.prefect}", "/api/health")


def _mlflow(settings: Settings, ports: Ports) -> Service:
    folder = settings.home / "mlflow"
    # One worker and no job execution: 0.45 GB and 4 s instead of 2.3 GB and 12 s. Both URIs are always given: the
    # defaults lie in the working directory.
    command = (
        *(*RUN, "deployments.stack.mlflow_server", "--workers", "1"),
        *("--host", HOST, "--port", str(ports.mlflow)),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"),
    )
    return Service("mlflow", command, f"http://{HOST}:{ports.mlflow}", "/health")


def _evidently(settings: Settings, ports: Ports) -> Service:
    command = (
        *(*RUN, "deployments.stack.evidently_ui", "ui", "--workspace", str(settings.evidently)),
        *("--host", HOST, "--port", str(ports.evidently)),
    )
    return Service("evidently", command, f"http://{HOST}:{ports.evidently}", "/", needed=False)


def _registry_watch(settings: Settings, ports: Ports) -> Service:
    command = (
        *PYTHON,
        "-m",
        "deployments.hands",
        "--home",
        str(settings.home),
        "--mlflow",
        f"http://{HOST}:{ports.mlflow}",
    )
    return Service("registry-watch", command, needed=False, beat=beat_file(settings.home))


def _scoring(settings: Settings, ports: Ports, release: str) -> Service:
    port, pin = ports.scoring[release], ports.pinned.get(release)
    module = "deployments.stock" if release in ports.stock else "deployments.scoring"
    command = (
        *(*RUN, module, "--name", release, "--home", str(settings.home)),
        *("--mlflow", f"http://{HOST}:{ports.mlflow}", "--host", HOST, "--port", str(port)),
        *guard_of(ports, release).arguments,
        *(("--release", pin) if pin else ()),
    )
    # 503 of the stock server: it runs, and there is no champion to serve yet. Ours answers 503 when its model hangs.
    alive = (200, 503) if release in ports.stock else (200,)
    stop_s = int(LONGEST_DRAIN_S) + 5  # ours ends by itself, in the time that its release states
    return Service(scoring_name(release), command, _scoring_url(ports, release), "/ping", alive=alive, stop_s=stop_s)
