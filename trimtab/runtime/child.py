"""A predictor in a process of its own, asked through shared memory: a runtime that crashes ends that process alone.

What runs there is the runtime's own file, as it goes into a release, and nothing else of ours. Control messages are
small JSON over a socket; arrays lie in shared memory, so one copy is made in each direction and nothing is pickled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from trimtab.errors import StateError
from trimtab.runtime.availability import refuse_unavailable
from trimtab.runtime.bundling import joined
from trimtab.runtime.door import check_inputs, load_spec
from trimtab.runtime.pipe import receive, send
from trimtab.runtime.shared import Region
from trimtab.targets import TARGETS
from trimtab.worker import ENVIRONMENTS, interpreter_of
from trimtab.worker.job import worker_env

# Of libraries that a runtime computes with and that take every core where they are not told.
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerDied(StateError):
    """The process ended, or could not be understood any more, before it answered."""


class NotAsked(WorkerDied):
    """The process had ended before it heard of the question: another one may be asked."""


class WorkerFailed(StateError):
    """The model raised in the process, which goes on.

    Args:
        kind: type of the error there.
    """

    def __init__(self, kind: str, what: str, where: str) -> None:
        super().__init__(f"{kind}: {what}", where=where)
        self.kind = kind


class Child:
    """One worker process with a model in it. It ends with this process, and with the thread that made this object.

    Not reentrant: one question at a time.

    Attributes:
        spec: inputs and outputs, as in spec.json. pid: of the process.
        usable: whether it can be asked; it is not while it answers, and after an answer that did not come.
    """

    reentrant = False

    def __init__(self, target: str, folder: Path, threads: int) -> None:
        """Start the process; `load` waits until it has loaded the model.

        Raises:
            ValueError: the target is unknown. UnsupportedError: this machine cannot run it. StateError: its worker
                environment cannot be made. OSError: no process can be started.
        """
        if target not in TARGETS:
            raise ValueError(f"unknown target {target!r}; one of {sorted(TARGETS)}")
        refuse_unavailable(target, converting=False)
        self.spec = load_spec(folder)
        self.usable = True
        self._alone = threading.Lock()
        self._home = tempfile.TemporaryDirectory(prefix="trimtab-worker-")
        command, env = _command(target, threads, Path(self._home.name))
        with contextlib.ExitStack() as unless_started:
            self._memory = Region.new()
            unless_started.callback(self._memory.close)
            ours, theirs = socket.socketpair()
            unless_started.callback(ours.close)
            passed = [theirs.fileno(), self._memory.descriptor]
            arguments = [folder.resolve(), threads, *passed, os.getpid()]
            with theirs:
                self._process = subprocess.Popen(
                    [*command, *map(str, arguments)], env=env, stdin=subprocess.DEVNULL, pass_fds=passed
                )
            unless_started.pop_all()
        self.pid = self._process.pid
        self._connection = ours
        self._questions, self._answers = ours.makefile("wb"), ours.makefile("rb")

    def load(self) -> None:
        """Wait until the model is loaded.

        Raises:
            WorkerFailed: it cannot be; the process ends. WorkerDied: the process ended.
        """
        self._answer()

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...).

        Raises:
            InputError: the inputs do not fit the specification. WorkerFailed: the model raised. NotAsked: the process
                had ended before. WorkerDied: it ended while it was asked.
        """
        ready = check_inputs(self.spec, inputs)
        with self._alone:
            if not self.usable:
                raise NotAsked("the worker process has ended", where=f"pid {self.pid}")
            placed, end = self._memory.put(ready)
            self.usable = False
            try:
                send(self._questions, {}, inputs=placed, end=end)
            except (OSError, ValueError) as error:
                raise NotAsked("the worker process has ended", where=f"pid {self.pid}") from error
            header = self._answer()
            try:
                return {name: view.copy() for name, view in self._memory.views(header["outputs"]).items()}
            except (KeyError, TypeError, ValueError, OSError) as error:
                self.usable = False
                raise WorkerDied("answers what cannot be understood", where=f"pid {self.pid}") from error

    def kill(self) -> None:
        """End the process at once; from any thread, and however busy it is."""
        self._process.kill()

    def wait(self) -> str:
        """Wait until the process has ended, and give back what it held; how it ended, for people."""
        code = self._process.wait()
        with self._alone:
            self.usable = False
            for stream in (self._questions, self._answers, self._connection):
                with contextlib.suppress(OSError):  # what was not sent cannot be sent any more
                    stream.close()
            self._memory.close()
        self._home.cleanup()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"

    def _answer(self) -> dict[str, Any]:
        try:
            message = receive(self._answers)
        except (EOFError, ValueError, OSError):
            message = None
        if message is None:
            raise WorkerDied("the worker process ended before it answered", where=f"pid {self.pid}")
        self.usable = True
        if error := message[1].get("error"):
            kind, what = error
            raise WorkerFailed(kind, what, f"pid {self.pid}")
        return message[1]


def _command(target: str, threads: int, home: Path) -> tuple[list[str], dict[str, str]]:
    """What the process runs, and in which environment variables."""
    entry = TARGETS[target]
    parts = ("door", "pipe", "shared", *entry.parts, entry.runtime, "process_end")
    text = joined(parts, f"{target} in a worker process")
    limited = dict.fromkeys(POOLS, str(threads))
    if entry.load_worker:
        interpreter = interpreter_of(ENVIRONMENTS[entry.load_worker])
        return [str(interpreter), "-I", "-c", text], {**worker_env(home), **limited}
    return [sys.executable, "-P", "-c", text], {**os.environ, **limited}
