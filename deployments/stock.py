"""`python -m deployments.stock --name NAME`: the champion on stock `mlflow models serve`, restarted on promotion.

For who wants exactly MLflow's own server (`serving.backend: mlflow`). What is lost against our service: the journal
(and with it all monitoring), the swap without a gap, limits, labels and metrics. While there is no champion, or a new
one starts, /ping answers 503.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx

from trimtab.errors import RegistryError, StateError, TrimtabError
from trimtab.registry.follow import current_champion, download_model
from trimtab.registry.keys import Keyring
from trimtab.settings import Settings
from trimtab.store import write_atomic

POLL_S = 1.0
START_S = 120.0
STOP_S = 10.0


class Stock:
    """One `mlflow models serve` child, following the champion of a release name."""

    def __init__(self, settings: Settings, name: str, host: str, port: int) -> None:
        self.settings, self.name, self.host, self.port = settings, name, host, port
        self.child: subprocess.Popen[bytes] | None = None
        self.version: int | None = None
        self.refused: int | None = None

    def run(self) -> None:
        """Follow until the process is told to stop.

        Raises:
            StateError: the child ended by itself, or did not start.
        """
        while self.version is None:
            with placeholder(self.host, self.port):
                first, model = self._await_champion()
            self._roll(first, model)
        while True:
            time.sleep(POLL_S)
            if self.child is not None and self.child.poll() is not None:
                raise StateError(f"mlflow models serve ended with code {self.child.returncode}", where=self.name)
            wanted = self._champion()
            if wanted is None or wanted == self.version:
                continue
            if (verified := self._verified(wanted)) is not None:
                self.stop()
                self._roll(wanted, verified)

    def stop(self) -> None:
        """End the child and all its processes."""
        if self.child is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, number)
                self.child.wait(STOP_S)
                break
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self.child = None

    def _await_champion(self) -> tuple[int, Path]:
        while True:
            wanted = self._champion()
            if wanted is not None and (model := self._verified(wanted)):
                return wanted, model
            time.sleep(POLL_S)

    def _verified(self, version: int) -> Path | None:
        """The model in a folder of ours, its signature checked; None if it is refused, and what serves stays.

        The server is started from there: MLflow would fetch again, and run whatever loader it then gets.
        """
        into = self.settings.home / "stock" / self.name / str(version)
        try:
            download_model(self.settings.tracking_uri(), self.name, version, into, Keyring(self.settings.signing_keys))
        except RegistryError as error:
            if version != self.refused:
                print(f"version {version} refused, {self.version} stays: {error}", file=sys.stderr)
            self.refused = version
            return None
        return into

    def _champion(self) -> int | None:
        try:
            return current_champion(self.settings.tracking_uri(), self.name)
        except RegistryError as error:
            print(f"the registry does not answer, going on: {error}", file=sys.stderr)
            return self.version

    def _roll(self, version: int, model: Path) -> None:
        command = [
            *(sys.executable, "-P", "-m", "mlflow", "models", "serve", "--env-manager", "local"),
            *("-m", str(model), "--host", self.host, "--port", str(self.port)),
        ]
        scripts = str(Path(sys.executable).parent)  # it finds uvicorn through PATH
        environment = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
            "MLFLOW_TRACKING_URI": self.settings.tracking_uri(),
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        }
        self.child = subprocess.Popen(command, env=environment, start_new_session=True)
        self._await_ping(version)
        self.version = version
        for other in model.parent.iterdir():
            if other != model:
                shutil.rmtree(other, ignore_errors=True)
        write_atomic(status_file(self.settings, self.name), json.dumps({"version": str(version)}).encode())

    def _await_ping(self, version: int) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.child is not None and self.child.poll() is None:
            try:
                if httpx.get(f"http://{self.host}:{self.port}/ping", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        self.stop()
        raise StateError(f"mlflow models serve did not start with version {version}", where=self.name)


def status_file(settings: Settings, name: str) -> Path:
    """Where the version that the stock server answers with is written; it cannot be asked."""
    return settings.home / "stock" / f"{name}.json"


@contextmanager
def placeholder(host: str, port: int) -> Iterator[None]:
    """Answers 503 on every path while there is nothing to serve."""

    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """503 with a reason."""
            body = b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no champion yet"}'
            self.send_response(503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer((host, port), Nothing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def main() -> int:
    """Read the command line, serve, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.stock", description=__doc__)
    parser.add_argument("--name", required=True, help="release name, as registered")
    parser.add_argument("--home", type=Path, help="state directory (default: as for `trimtab`)")
    parser.add_argument("--mlflow", required=True, help="address of the MLflow server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    settings = Settings.load(options.home).ensure_home().model_copy(update={"mlflow_tracking_uri": options.mlflow})
    stock = Stock(settings, options.name, options.host, options.port)
    signal.signal(signal.SIGTERM, _stop)
    try:
        stock.run()
    except TrimtabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    finally:
        stock.stop()
        status_file(settings, options.name).unlink(missing_ok=True)
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
