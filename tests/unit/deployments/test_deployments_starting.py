"""How the servers' processes start: the launcher, the blank database, and whose port it is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.stack import blank
from deployments.stack.health import _listens
from deployments.stack.launch import ALLOCATIONS
from trimtab.settings import Settings

TELLING = "import gc, json, sys; print(json.dumps([__name__, sys.argv[1:], gc.get_threshold()[0]]))"


def launched(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.stack.launch", *arguments]
    around = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(folder)])}
    return subprocess.run(command, capture_output=True, text=True, env=around, check=False)


def test_a_module_is_launched_as_python_m_would_with_fewer_collections(tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(TELLING)

    done = launched("telling", "--port", "1", folder=tmp_path)

    assert json.loads(done.stdout) == ["__main__", ["--port", "1"], ALLOCATIONS]


def test_a_module_that_is_not_there_and_none_at_all_are_errors() -> None:
    assert "No module named" in launched("no_such_module").stderr
    assert "usage" in launched().stderr
    assert launched().returncode != 0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "home" / "prefect").mkdir(parents=True)
    return Settings(home=tmp_path / "home")


def test_a_new_state_directory_starts_from_the_blank_database_and_an_old_one_keeps_its_own(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.db"
    kept.write_bytes(b"migrated")
    monkeypatch.setattr(blank, "blank", lambda: kept)
    database = settings.home / "prefect" / blank.DATABASE

    blank.lay_out(settings)
    assert database.read_bytes() == b"migrated"

    database.write_bytes(b"with runs in it")
    blank.lay_out(settings)
    assert database.read_bytes() == b"with runs in it"


def test_without_a_blank_database_the_server_makes_its_own(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blank, "blank", lambda: tmp_path / "absent.db")

    blank.lay_out(settings)

    assert list((settings.home / "prefect").iterdir()) == []


def test_a_blank_database_of_another_prefect_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    here = blank.blank()
    monkeypatch.setattr(blank, "version", lambda name: "0.0")

    assert blank.blank() != here


def test_a_port_counts_as_a_servers_only_when_it_or_its_child_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours, subprocess.Popen(["sleep", "60"], env={}) as stranger:
        port = ours.getsockname()[1]
        try:
            assert _listens(os.getpid(), port)
            assert not _listens(stranger.pid, port)
        finally:
            stranger.kill()
    assert not _listens(os.getpid(), port)
