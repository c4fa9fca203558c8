"""The servers that are compared: how each is started, asked and stopped; one model, one inference thread each."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import httpx

from benchmarks.serve.task import SHAPE, batch_of

LITSERVE = "0.2.19"
START_S, STOP_S = 180, 20
JSON = {"Content-Type": "application/json"}


@dataclass
class Server:
    """One of them, running.

    Attributes:
        binary: whether it takes raw float32 bodies. why: the reason if it does not.
    """

    name: str
    url: str
    binary: bool
    why: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def headers(self, cell: str) -> dict[str, str] | None:
        """Headers of a cell's requests, None where this server has no such cell."""
        if cell.startswith("json"):
            return JSON
        return raw_headers(batch_of(cell)) if self.binary else None


def raw_headers(batch: int) -> dict[str, str]:
    """Of a raw float32 body, as our service takes it."""
    shape = ",".join(map(str, (batch, *SHAPE)))
    return {"Content-Type": "application/octet-stream", "X-Trimtab-Shape": shape, "X-Trimtab-Dtype": "float32"}


@contextlib.contextmanager
def running(folder: Path, cpus: set[int]) -> Iterator[tuple[list[Server], dict[str, str]]]:
    """All that can be started, and why the others cannot.

    Args:
        folder: made by `model`. cpus: what the servers may run on.
    """
    started: list[Server] = []
    missing: dict[str, str] = {}
    try:
        started.append(_start("mlflow", _mlflow(folder), "/invocations", "/ping", cpus, "it takes no raw tensors"))
        started.append(_start("starlette", _starlette(folder), "/invocations", None, cpus))
        started.append(_start("trimtab", _trimtab(folder), "/invocations", "/ready", cpus))
        try:
            python = litserve_python(folder.parent / f"litserve-{LITSERVE}")
        except (OSError, subprocess.CalledProcessError) as error:
            missing["litserve"] = f"litserve {LITSERVE} cannot be installed: {_reason(error)}"
        else:
            why = "it hands a request on only as parsed JSON or a form"
            started.append(_start("litserve", _litserve(folder, python), "/predict", "/health", cpus, why))
        yield started, missing
    finally:
        for server in started:
            stop(server)


def litserve_python(folder: Path) -> Path:
    """The interpreter of LitServe's own environment, made at the first call.

    Raises:
        OSError, subprocess.CalledProcessError: it cannot be made.
    """
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.is_file():
        venv.create(folder, with_pip=True, clear=True)
        pins = [f"litserve=={LITSERVE}", *(f"{name}=={version(name)}" for name in ("onnxruntime", "numpy"))]
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins]
        subprocess.run(command, check=True, stdout=sys.stderr)
        done.touch()
    return python


def stop(server: Server) -> None:
    """End a server and all its processes."""
    if server.process is None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(STOP_S)
    server.process = None


def _mlflow(folder: Path) -> list[str]:
    return [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", str(folder / "mlflow"),
            "--host", "127.0.0.1", "--port"]  # fmt: skip


def _starlette(folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.serve.starlette_app", str(folder / "model.onnx")]


def _litserve(folder: Path, python: Path) -> list[str]:
    return [str(python), str(Path(__file__).with_name("litserve_app.py")), str(folder / "model.onnx")]


def _trimtab(folder: Path) -> list[str]:
    return [sys.executable, "-m", "trimtab.serving", "--name", "bench", "--home", str(folder / "home"),
            "--release-folder", str(folder / "release"), "--version", "1", "--port"]  # fmt: skip


def _start(name: str, command: list[str], path: str, ping: str | None, cpus: set[int], why: str = "") -> Server:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scripts = str(Path(sys.executable).parent)  # mlflow finds uvicorn through PATH
    around = {**os.environ, **_one_thread(), "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        [*command, str(port)],
        env=around,
        stdout=subprocess.DEVNULL,
        stderr=None,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    server = Server(name, f"http://127.0.0.1:{port}{path}", binary=not why, why=why, process=process)
    try:
        _await(process, name, port, ping)
    except BaseException:
        stop(server)
        raise
    return server


def _await(process: subprocess.Popen[bytes], name: str, port: int, ping: str | None) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with {process.returncode} while it started")
        with contextlib.suppress(httpx.TransportError, OSError):
            if ping is None:
                socket.create_connection(("127.0.0.1", port), timeout=2).close()
                return
            if httpx.get(f"http://127.0.0.1:{port}{ping}", timeout=2).status_code == 200:
                return
        time.sleep(0.2)
    raise SystemExit(f"{name} did not answer within {START_S} s")


def _one_thread() -> Mapping[str, str]:
    return {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _reason(error: Exception) -> str:
    return f"pip ended with {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else str(error)
