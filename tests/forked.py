"""Commands that cost their own work only: one process imports what they need, and each command is a fork of it.

A fork has the arguments, folder and streams it is given, the environment of the process, and ends as the interpreter
ends. Only its imports are done already; so each program is started cold by some test, too.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Forks:
    """Runs `python -m MODULE …` from a process that has imported much; one at a time.

    Args:
        imports: modules that are imported before the first fork.
        environment: of the process, and so of every command; what Prefect reads at import must be in it.
    """

    def __init__(self, imports: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, *imports],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run it to its end; its exit code and what it printed."""
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
            order = {"module": module, "arguments": arguments, "cwd": str(cwd), "out": out.name, "err": err.name}
            return subprocess.CompletedProcess([module, *arguments], self._ask(order), out.read(), err.read())

    def _ask(self, order: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the process; no command runs any more."""
        self._process.communicate()


def main() -> None:
    """Import, then fork for each line of standard input; the exit code of each is a line of standard output."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    assert threading.active_count() == 1, f"a fork has one thread only: {threading.enumerate()}"
    while line := sys.stdin.readline():
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            return _become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return None


def _become(order: dict[str, Any]) -> None:
    for number, path in enumerate((os.devnull, order["out"], order["err"])):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0)  # noqa: SIM115  (the old one may have read ahead)
    os.chdir(order["cwd"])
    sys.path.insert(0, order["cwd"])  # as `python -m` has it
    sys.argv[1:] = order["arguments"]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
