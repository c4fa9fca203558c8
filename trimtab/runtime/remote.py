"""A predictor whose runtime cannot be in this process: it runs in a child of its own, in a worker environment.

What runs there is the runtime's own file, as it goes into a release. Arrays go over pipes; that, some tens of
microseconds a call and the copying of the arrays twice, is part of every latency measured and served here.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from trimtab.errors import StateError
from trimtab.runtime.bundling import joined
from trimtab.runtime.door import check_inputs, load_spec
from trimtab.runtime.pipe import receive, send
from trimtab.targets import TARGETS
from trimtab.worker import ENVIRONMENTS, interpreter_of
from trimtab.worker.job import end_of, worker_env


class Predictor:
    """A predictor in a child process, which ends with this object, or with this process.

    Reentrant: calls at the same time wait for one another. Each predictor has a child, so its number of threads is its
    own even where the runtime has one for a whole process.

    Attributes:
        spec: inputs and outputs, as in spec.json.
        reentrant: whether `predict` may be called from several threads at once.
        pid: of the child.
    """

    reentrant = True

    def __init__(self, interpreter: Path, target: str, folder: Path, threads: int) -> None:
        self.spec = load_spec(folder)
        self._what = f"the process for {target}"
        self._lock = threading.Lock()
        home = tempfile.TemporaryDirectory(prefix="trimtab-worker-")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the child)
        entry = TARGETS[target]
        text = joined(("door", "pipe", *entry.parts, entry.runtime, "pipe_end"), f"{target} at the end of a pipe")
        process = subprocess.Popen(
            [str(interpreter), "-I", "-c", text, str(folder.resolve()), str(threads)],
            env=worker_env(Path(home.name)),
            cwd=home.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self._questions: BinaryIO = process.stdin  # type: ignore[assignment]
        self._answers: BinaryIO = process.stdout  # type: ignore[assignment]
        self._end = weakref.finalize(self, _end, process, self._log, home)
        try:
            self._answer()  # it has loaded the model
        except BaseException:
            self._end()
            raise

    @classmethod
    def load(cls, target: str, folder: Path, threads: int) -> Predictor:
        """Open `folder` in the worker environment of a target, which is made if it is not there.

        Raises:
            StateError: the environment cannot be made, or the child cannot load the folder.
        """
        return cls(interpreter_of(ENVIRONMENTS[TARGETS[target].load_worker]), target, Path(folder), threads)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name for inputs name → array (batch, ...).

        Raises:
            InputError: the inputs do not fit the specification. StateError: the child failed or is gone.
        """
        ready = check_inputs(self.spec, inputs)
        with self._lock:
            with contextlib.suppress(BrokenPipeError, ValueError):  # the answer, or its absence, says more
                send(self._questions, ready)
            return self._answer()

    def close(self) -> None:
        """End the child; a later `predict` raises."""
        self._end()

    def _answer(self) -> dict[str, NDArray[Any]]:
        try:
            message = receive(self._answers)
        except (EOFError, ValueError, OSError):
            message = None
        if message is None:
            words = end_of(self._log) if not self._log.closed else "it was closed"
            raise StateError(f"{self._what} is gone: {words[-1000:]}", where=f"pid {self.pid}", fix="load it again")
        arrays, header = message
        if error := header.get("error"):
            raise StateError(f"{self._what} failed: {error[:1000]}", where=f"pid {self.pid}")
        return arrays


def _end(process: subprocess.Popen[bytes], log: Any, home: tempfile.TemporaryDirectory[str]) -> None:
    with contextlib.suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()  # it reads the end, and ends
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
    log.close()
    home.cleanup()
