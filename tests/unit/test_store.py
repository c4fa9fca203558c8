"""Files are whole or absent, and a lock left by a dead process is no lock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trimtab.errors import Conflict
from trimtab.store import folder_digests, matches, new_folder, os_lock, write_atomic


def test_a_folder_appears_only_when_the_block_ends_well(tmp_path: Path):
    def interrupted() -> None:
        with new_folder(tmp_path / "made") as draft:
            (draft / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "made") as draft:
        (draft / "whole").write_text("x")
    assert (tmp_path / "made" / "whole").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_new_folder_replaces_the_old_one(tmp_path: Path):
    for text in ("one", "two"):
        with new_folder(tmp_path / "made") as draft:
            (draft / text).write_text(text)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["two"]


def test_a_changed_added_or_missing_file_does_not_match(tmp_path: Path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_text("2")
    known = folder_digests(tmp_path)
    assert matches(tmp_path, known)
    (tmp_path / "a").write_text("x")
    assert not matches(tmp_path, known)
    (tmp_path / "a").write_text("1")
    (tmp_path / "c").write_text("3")
    assert not matches(tmp_path, known)


def test_write_atomic_leaves_the_old_file_when_it_cannot_write(tmp_path: Path):
    target = tmp_path / "file"
    write_atomic(target, b"old")
    with pytest.raises(TypeError):
        write_atomic(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_second_holder_is_told_and_a_killed_one_leaves_no_lock(tmp_path: Path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from trimtab.store import os_lock\n"
            "with os_lock(Path(sys.argv[1]), wait=True, what='x'):\n    print('held', flush=True); time.sleep(60)",
            str(lock),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Conflict, match="a release"), os_lock(lock, wait=False, what="a release"):
        pass
    os.kill(holder.pid, 9)
    holder.wait()
    with os_lock(lock, wait=False, what="a release"):
        pass
