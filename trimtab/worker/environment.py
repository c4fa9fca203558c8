"""A worker environment: a venv named by the digest of what is in it, whole or absent, made once.

    <state directory>/workers/litert-0123456789abcdef/bin/python

A build happens in a folder beside it, under a lock that the kernel frees when the process dies, and ends in a rename;
drafts that a killed build left are removed by the next one. Nothing in a venv but its console scripts, which are not
used, knows the folder it was made in.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from trimtab.candidate import digest_of
from trimtab.errors import StateError
from trimtab.settings import Settings
from trimtab.store import os_lock

INSTALL_LIMIT_S = 3600
RECORD = "worker.json"


@dataclass(frozen=True)
class Environment:
    """What a worker environment holds.

    Attributes:
        name: for people and for the folder.
        requirements: pinned, as pip takes them; "torch==" alone stands for the version installed here, so that what
            our torch wrote is read by the same one.
        megabytes: disk that it needs, to be said and checked before anything is installed.
    """

    name: str
    requirements: tuple[str, ...]
    megabytes: int = 50

    @property
    def pinned(self) -> tuple[str, ...]:
        """The requirements, torch's version filled in."""
        return tuple(
            f"torch=={version('torch').partition('+')[0]}" if one == "torch==" else one for one in self.requirements
        )

    @property
    def versions(self) -> dict[str, str]:
        """Distribution → pinned version."""
        return {name: found for name, _, found in (one.partition("==") for one in self.pinned)}

    @property
    def folder(self) -> str:
        """Name of its folder: another list, Python or machine is another environment."""
        digest = digest_of([self.pinned, platform.python_version(), sys.platform, platform.machine()])
        return f"{self.name}-{digest[:16]}"


# litert-torch needs xdsl 0.28, which needs typing-extensions < 4.13; pydantic 2.14, which is ours, needs a later one.
# TensorFlow keeps one thread count a process, and its own copies of libraries that torch and OpenVINO bring too.
ENVIRONMENTS = {
    "litert": Environment("litert", ("torch==", "litert-torch==0.10.0", "ai-edge-litert==2.3.0"), megabytes=2500),
    "tensorflow": Environment("tensorflow", ("tensorflow-cpu==2.21.0", "onnx==1.23.2"), megabytes=1800),
}


def made(wanted: Environment, home: Path) -> Path | None:
    """The interpreter of an environment that is there, None if it has to be made first."""
    folder = home / "workers" / wanted.folder
    return folder / "bin" / "python" if (folder / RECORD).is_file() else None


def interpreter_of(wanted: Environment, home: Path | None = None, limit_s: float = INSTALL_LIMIT_S) -> Path:
    """The interpreter of an environment; it is made if it is not there, which takes minutes and the package index.

    Args:
        wanted: one of `ENVIRONMENTS`.
        home: the state directory; by default the one the settings name.
        limit_s: seconds the installation may take.

    Raises:
        StateError: the disk is too full, or pip failed; nothing is left behind.
    """
    home = home or Settings.load().home
    if found := made(wanted, home):
        return found
    with os_lock(home / "locks" / f"worker-{wanted.folder}.lock", wait=True, what=f"making {wanted.folder}"):
        if found := made(wanted, home):
            return found
        _make(wanted, home / "workers", limit_s)
    return home / "workers" / wanted.folder / "bin" / "python"


def _make(wanted: Environment, workers: Path, limit_s: float) -> None:
    workers.mkdir(parents=True, exist_ok=True)
    for left in workers.glob(f".{wanted.folder}-*"):  # the lock is ours: whoever made them is gone
        shutil.rmtree(left, ignore_errors=True)
    free = shutil.disk_usage(workers).free // 1_000_000
    if free < wanted.megabytes:
        raise StateError(
            f"{free} MB are free, the worker environment {wanted.name} needs {wanted.megabytes} MB",
            where=str(workers),
            fix="make room, or take the targets that need it out of `targets`",
        )
    draft = Path(tempfile.mkdtemp(prefix=f".{wanted.folder}-", dir=workers))
    try:
        _run([sys.executable, "-m", "venv", str(draft)], wanted, limit_s)
        if wanted.pinned:
            pip = [str(draft / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
            _run([*pip, *wanted.pinned], wanted, limit_s)
        record = {"requirements": wanted.pinned, "python": platform.python_version()}
        (draft / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.rename(draft, workers / wanted.folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _run(command: list[str], wanted: Environment, limit_s: float) -> None:
    # PYTHONPATH and the like would mix our packages into it; pip's own settings (index, proxy, cache) must reach it.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "__PYVENV"))}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=limit_s, check=False)
        output, failed = done.stderr.strip() or done.stdout.strip(), done.returncode != 0
    except subprocess.TimeoutExpired:
        output, failed = f"not done after {limit_s:g} s", True
    if failed:
        raise StateError(
            f"the worker environment {wanted.name} ({', '.join(wanted.pinned)}) cannot be made: {output[-1500:]}",
            where=" ".join(command[1:3]),
            fix="see that pip reaches a package index which has these; then run it again",
        )
