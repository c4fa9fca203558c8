"""Bringing the stack up, without servers: what is refused, what a failing server says, what is left over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.stack import down, status, up
from deployments.stack.health import last_lines, wait_ready
from deployments.stack.leftovers import flow_runs, servers, stop
from deployments.stack.services import Service
from deployments.stack.supervise import ProcessInfo
from trimtab.errors import Conflict, StateError
from trimtab.settings import Settings
from trimtab.store import os_lock


@pytest.fixture(autouse=True)
def _no_fixed_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRIMTAB_PREFECT_API_URL", "TRIMTAB_MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_a_state_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot be written"):
        up(Settings(home=tmp_path / "file" / "state"))


def test_one_up_or_down_at_a_time(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with os_lock(settings.locks / "stack.lock", wait=False, what="another"):
        with pytest.raises(Conflict, match="already running"):
            up(settings)
        with pytest.raises(Conflict, match="already running"):
            down(settings)


def test_addresses_fixed_by_the_environment_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_MLFLOW_TRACKING_URI", "http://mlflow.example")
    with pytest.raises(StateError, match="TRIMTAB_MLFLOW_TRACKING_URI"):
        up(Settings(home=tmp_path))


def test_nothing_runs_where_nothing_was_started(tmp_path: Path) -> None:
    assert status(Settings(home=tmp_path)) == []
    assert down(Settings(home=tmp_path)) is False
    assert down(Settings(home=tmp_path / "absent")) is False
    assert not (tmp_path / "absent").exists()


class Failing:
    """A supervisor whose only server is given up."""

    def processes(self) -> dict[str, ProcessInfo]:
        return {"prefect": ProcessInfo("FATAL", 0, 0, 0)}


class Restarting:
    """A supervisor whose only server starts again and again."""

    starts = 0

    def processes(self) -> dict[str, ProcessInfo]:
        self.starts += 1
        return {"prefect": ProcessInfo("STARTING", 4711, self.starts, 0)}


@pytest.mark.parametrize("supervisor", [Failing(), Restarting()])
def test_a_server_that_fails_is_reported_with_the_end_of_its_log(tmp_path: Path, supervisor: Failing) -> None:
    settings = Settings(home=tmp_path)
    settings.logs.mkdir()
    (settings.logs / "prefect.log").write_text("".join(f"line {i}.\n" for i in range(100)))
    dead = Service("prefect", ("true",), "http://127.0.0.1:9", "/api/health")
    said: list[tuple[str, str]] = []

    with pytest.raises(StateError) as raised:
        wait_ready(settings, supervisor, [dead], lambda service, state, _: said.append((service, state)))  # type: ignore[arg-type]

    assert "line 80.\n" in raised.value.what
    assert "line 99." in raised.value.what
    assert "line 79." not in raised.value.what
    assert raised.value.where.endswith("prefect.log")


def test_the_end_of_a_log_that_is_absent_says_so(tmp_path: Path) -> None:
    assert "no log" in last_lines(tmp_path / "absent.log")


@pytest.fixture
def process(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the environment of a server of ours, and what the test adds."""
    around = {**os.environ, "TRIMTAB_HOME": str(tmp_path), "TRIMTAB_SERVICE": "prefect", **request.param}
    code = "import sys, time; sys.stdout.write('x'); sys.stdout.flush(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], env=around, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        yield child
        child.kill()


@pytest.mark.parametrize("process", [{}], indirect=True)
def test_a_server_that_was_left_over_is_found_and_stopped(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    settings = Settings(home=tmp_path)
    assert [found.pid for found in servers(settings)] == [process.pid]
    assert servers(Settings(home=tmp_path / "other")) == []

    stop([psutil.Process(process.pid)])

    assert servers(settings) == []


@pytest.mark.parametrize("process", [{"PREFECT__FLOW_RUN_ID": "abc"}], indirect=True)
def test_a_flow_run_is_not_taken_for_a_server(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    settings = Settings(home=tmp_path)
    assert servers(settings) == []
    assert {run: [p.pid for p in found] for run, found in flow_runs(settings).items()} == {"abc": [process.pid]}
