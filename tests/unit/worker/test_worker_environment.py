"""Worker environments: made once, whole or not at all. Nothing here reaches a package index."""

import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trimtab.errors import StateError
from trimtab.worker import environment as room
from trimtab.worker.environment import Environment, interpreter_of, made


def wheel(folder: Path, name: str = "tinything") -> Path:
    """A wheel of one module, which pip installs without an index."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "VALUE = 41 + 1\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def quick_venv(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would be run; `-m venv` makes a folder with the right interpreter, pip does nothing."""
    commands: list[list[str]] = []

    def run(command: list[str], wanted: Environment, limit_s: float) -> None:
        commands.append(command)
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir()
            (Path(command[-1]) / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(room, "_run", run)
    return commands


def test_a_package_is_installed_where_the_worker_sees_it_and_we_do_not(tmp_path: Path):
    wanted = Environment("tiny", (f"tinything @ {wheel(tmp_path).as_uri()}",))
    interpreter = interpreter_of(wanted, tmp_path / "home")
    script = "import sys, tinything; print(tinything.VALUE, any('hypothesis' in p for p in sys.modules))"
    done = subprocess.run([str(interpreter), "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["42", "False"]
    assert "tinything" not in sys.modules
    assert made(wanted, tmp_path / "home") == interpreter


def test_it_is_made_once_even_when_several_want_it_at_the_same_time(tmp_path: Path, quick_venv: list[list[str]]):
    wanted = Environment("tiny", ("one==1",))
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: interpreter_of(wanted, tmp_path), range(8)))
    assert found == {tmp_path / "workers" / wanted.folder / "bin" / "python"}
    assert len([command for command in quick_venv if "venv" in command]) == 1


def test_other_requirements_are_another_environment(tmp_path: Path, quick_venv: list[list[str]]):
    first, second = Environment("tiny", ("one==1",)), Environment("tiny", ("one==2",))
    assert interpreter_of(first, tmp_path) != interpreter_of(second, tmp_path)
    record = json.loads((tmp_path / "workers" / second.folder / "worker.json").read_text())
    assert record["requirements"] == ["one==2"]


def test_a_failed_installation_leaves_nothing_and_says_what_pip_said(tmp_path: Path):
    missing = tmp_path / "nothing-1.0-py3-none-any.whl"
    wanted = Environment("tiny", (f"nothing @ {missing.as_uri()}",))
    with pytest.raises(StateError, match=r"nothing-1\.0"):
        interpreter_of(wanted, tmp_path / "home")
    assert made(wanted, tmp_path / "home") is None
    assert list((tmp_path / "home" / "workers").iterdir()) == []


def test_what_a_killed_build_left_is_neither_used_nor_kept(tmp_path: Path, quick_venv: list[list[str]]):
    wanted = Environment("tiny", ("one==1",))
    left = tmp_path / "workers" / f".{wanted.folder}-killed"
    (left / "bin").mkdir(parents=True)
    assert made(wanted, tmp_path) is None
    interpreter_of(wanted, tmp_path)
    assert [path.name for path in (tmp_path / "workers").iterdir()] == [wanted.folder]


def test_too_full_a_disk_is_refused_before_anything_is_installed(tmp_path: Path, quick_venv: list[list[str]]):
    with pytest.raises(StateError, match="MB are free"):
        interpreter_of(Environment("huge", (), megabytes=10**9), tmp_path)
    assert not quick_venv


def test_torch_in_a_worker_is_the_version_that_writes_for_it():
    from importlib.metadata import version

    assert Environment("x", ("torch==", "other==2")).pinned == (f"torch=={version('torch').split('+')[0]}", "other==2")
