"""The inside of a worker process: the last part of what its interpreter runs.

It is never imported here: `child.py` writes it behind the door, the pipe, the shared memory and one runtime, whose
names it uses.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# bundle: drop
from trimtab.runtime.pipe import receive, send
from trimtab.runtime.shared import Region

if TYPE_CHECKING:
    from trimtab.runtime.onnxruntime_cpu import Predictor
# bundle: keep

PR_SET_PDEATHSIG = 1


def belong_to(parent: int) -> None:
    """End with the parent, whatever ends it and whatever this process is busy with; signals are the parent's affair.

    What tells a service to end is often sent to all its processes; this one still has requests to answer then.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)  # it ended before it could be told


def answer_all(folder: str, threads: str, control: str, memory: str, parent: str) -> None:
    """Load the folder, say so, and answer until the other side closes the socket."""
    belong_to(int(parent))
    os.dup2(2, 1)  # standard output is nobody's
    region, connection = Region(int(memory)), socket.socket(fileno=int(control))
    questions, answers = connection.makefile("rb"), connection.makefile("wb")
    try:
        load = getattr(Predictor, "load_shared", Predictor.load)  # where the runtime can share what it loads
        predictor = load(Path(folder), int(threads))
    except Exception as error:
        send(answers, {}, error=[type(error).__name__, str(error)[:1000]])
        return
    send(answers, {})
    while (message := receive(questions)) is not None:
        try:
            outputs = predictor.predict(region.views(message[1]["inputs"]))
            placed, _ = region.put(outputs, message[1]["end"])
        except Exception as error:
            send(answers, {}, error=[type(error).__name__, str(error)[:1000]])
        else:
            send(answers, {}, outputs=placed)


with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent ended meanwhile
    answer_all(*sys.argv[1:])
