"""A job in a worker: its status, its last words when it fails, its end when it takes too long."""

import os
import sys
import time
from pathlib import Path

import pytest

from trimtab.errors import ConversionError
from trimtab.worker import run_job


def job(folder: Path, text: str, limit_s: float = 20) -> dict:
    script = folder / "script.py"
    script.write_text("import json, os, sys, time\n" + text, encoding="utf-8")
    return run_job(Path(sys.executable), script, folder, limit_s, "some-target")


def test_files_go_in_and_out_and_the_status_is_the_last_line(tmp_path: Path):
    (tmp_path / "in").write_text("abc", encoding="utf-8")
    text = "open(sys.argv[1] + '/out', 'w').write(open(sys.argv[1] + '/in').read()[::-1])\n"
    assert job(tmp_path, text + "print('noise'); print(json.dumps({'ok': True, 'n': 3}))") == {"n": 3}
    assert (tmp_path / "out").read_text(encoding="utf-8") == "cba"


def test_a_refusal_is_told_in_the_workers_words(tmp_path: Path):
    with pytest.raises(ConversionError, match="no form for Foo") as raised:
        job(tmp_path, "print(json.dumps({'ok': False, 'error': 'no form for Foo'}))")
    assert raised.value.where == "some-target"


@pytest.mark.parametrize("end", ["sys.exit(3)", "print('not json')", "print('[1]')", "os.kill(os.getpid(), 9)"])
def test_a_worker_without_a_status_fails_with_its_last_words(tmp_path: Path, end: str):
    with pytest.raises(ConversionError, match="last words: the disk melted"):
        job(tmp_path, f"print('the disk melted', file=sys.stderr, flush=True); {end}")


def test_one_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path):
    text = "import subprocess\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    text += "open(sys.argv[1] + '/pid', 'w').write(str(child.pid))\ntime.sleep(60)"
    with pytest.raises(ConversionError, match="was not done after"):
        job(tmp_path, text, limit_s=1.5)
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    os.kill(pid, 9)
    pytest.fail("what the worker started is still running")


def test_a_worker_sees_none_of_our_variables_and_a_home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    status = job(tmp_path, "print(json.dumps({'ok': True, 'env': dict(os.environ), 'path': sys.path}))")
    assert "SECRET_TOKEN" not in status["env"]
    assert status["env"]["HF_HUB_OFFLINE"] == "1"
    assert status["env"]["HOME"] != os.environ.get("HOME")
    assert str(tmp_path) not in status["path"]
