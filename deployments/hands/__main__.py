"""`python -m deployments.hands`: the process that watches, for as long as the stack runs.

It imports neither MLflow nor Prefect, and waits for MLflow's port before it imports anything: idle it costs next to
nothing, and nothing of the time until the other servers answer. What is to be done, `settle` does in its own process.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

POLL_S = 2.0
SETTLE_S = 300.0  # MLflow, and for an alert Prefect, are imported there; on a busy machine that takes its time


def main() -> int:
    """Watch until the process is stopped."""
    parser = argparse.ArgumentParser(prog="python -m deployments.hands", description=__doc__)
    parser.add_argument("--home", type=Path, help="state directory")
    parser.add_argument("--mlflow", help="address of the MLflow server (default: the one `trimtab up` started)")
    options = parser.parse_args()
    if options.mlflow:
        wait_for_port(options.mlflow)

    from deployments.hands.watch import Watch
    from trimtab.errors import TrimtabError
    from trimtab.settings import Settings

    try:
        settings = Settings.load(options.home).ensure_home()
        if options.mlflow:
            settings = settings.model_copy(update={"mlflow_tracking_uri": options.mlflow})
        watch = Watch(settings, settling(settings.home, settings.tracking_uri()), say)
    except TrimtabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    while True:
        time.sleep(watch.round() or POLL_S)


def settling(home: Path, mlflow: str) -> Callable[[str], bool]:
    """What has a name settled, in a process of its own; whether it could."""

    def act(name: str) -> bool:
        command = [sys.executable, "-P", "-m", "deployments.stack.launch", "deployments.hands.settle"]
        try:
            done = subprocess.run([*command, "--home", str(home), "--mlflow", mlflow, name], timeout=SETTLE_S)
        except subprocess.TimeoutExpired:
            say(f"{name}: not settled within {SETTLE_S:.0f} s")
            return False
        return done.returncode == 0

    return act


def wait_for_port(address: str) -> None:
    """Return when somebody listens there."""
    parsed = urlsplit(address)
    place = (parsed.hostname or "127.0.0.1", parsed.port or (443 if parsed.scheme == "https" else 80))
    while True:
        try:
            socket.create_connection(place, timeout=2.0).close()
            return
        except OSError:
            time.sleep(0.5)


def say(line: str) -> None:
    """A line of the log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
