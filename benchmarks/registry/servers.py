"""Real servers on loopback: MLflow (SQLite or PostgreSQL, with or without its basic auth) and PostgreSQL itself."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
PATIENCE_S = 120.0
_DEBIAN = Path("/usr/lib/postgresql")


class ServerError(RuntimeError):
    """A server did not come up; the message has the end of its log."""


@dataclass(frozen=True)
class Login:
    """User and password of MLflow's basic auth."""

    user: str
    password: str

    def environment(self) -> dict[str, str]:
        """As the MLflow client reads them."""
        return {"MLFLOW_TRACKING_USERNAME": self.user, "MLFLOW_TRACKING_PASSWORD": self.password}


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mlflow_server(folder: Path, store: str | None = None, login: Login | None = None) -> Iterator[str]:
    """An MLflow server with one worker.

    Args:
        folder: gets its artifacts, its log and, without `store`, its SQLite file.
        store: SQLAlchemy URL of the backend store.
        login: the administrator; the server asks everybody for a password then.

    Yields:
        Its address.

    Raises:
        ServerError: it ended or did not answer in time.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store or f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    around = {**os.environ, **QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if login is not None:
        command += ["--app-name", "basic-auth"]
        around |= _basic_auth(folder, login)
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env=around, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield _ready(f"http://127.0.0.1:{port}", process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _basic_auth(folder: Path, login: Login) -> dict[str, str]:
    """Checks of passwords are kept for a minute: each costs a quarter of a second otherwise."""
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = {login.user}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": login.password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
    }


def _ready(address: str, process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{address}/health", timeout=2).status_code == 200:
                return address
        time.sleep(0.1)
    raise ServerError(f"MLflow did not come up:\n{log.read_text()[-3000:]}")


def postgres_programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`: on PATH, or where Debian puts them; None where there is none."""
    on_path = shutil.which("pg_ctl")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(_DEBIAN.glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3].split(".")[0]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own in `folder`, stopped afterwards; root runs it as the user `postgres`.

    Yields:
        SQLAlchemy URL without a database: append "/postgres" or one made by `create_database`.

    Raises:
        ServerError: PostgreSQL is not installed, or did not start.
    """
    programs = postgres_programs()
    if programs is None:
        raise ServerError("PostgreSQL is not installed: apt-get install postgresql (or dnf install postgresql-server)")
    folder.mkdir(parents=True, exist_ok=True)
    port, data, sockets = free_port(), folder / "data", folder / "s"
    sockets.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        for path in (folder, sockets):
            shutil.chown(path, "postgres")
        _open_the_way(folder)
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={sockets} -c fsync=off"
    _as_owner([str(programs / "initdb"), "-D", str(data), "-U", "trimtab", "--auth", "trust"], folder)
    started = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-o", options, "-l", str(folder / "log"), "start"]
    _as_owner(started, folder)
    try:
        yield f"postgresql+psycopg2://trimtab@127.0.0.1:{port}"
    finally:
        _as_owner([str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"], folder)


def create_database(server: str, name: str) -> str:
    """A new empty database; its SQLAlchemy URL."""
    import sqlalchemy as sa

    engine = sa.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return f"{server}/{name}"


def _open_the_way(folder: Path) -> None:
    """Temporary folders of root are closed to others; the server's user must be able to walk through."""
    for parent in folder.resolve().parents:
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)


def _as_owner(command: list[str], folder: Path) -> None:
    """Run as somebody PostgreSQL agrees to run as; it refuses root."""
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    log = folder / "commands.log"
    with log.open("ab") as stream:  # a file, not a pipe: the server would keep a pipe open
        done = subprocess.run(command, cwd=folder, stdout=stream, stderr=stream, check=False)
    if done.returncode:
        raise ServerError(f"{command[-1]} of PostgreSQL failed:\n{log.read_text()[-3000:]}")
