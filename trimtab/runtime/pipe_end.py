"""The other end of the pipe: the last part of what a worker's interpreter runs.

It is never imported here: `remote.py` writes it behind the door, the pipe and one runtime, whose names it uses.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# bundle: drop
from trimtab.runtime.pipe import receive, send

if TYPE_CHECKING:
    from trimtab.runtime.onnxruntime_cpu import Predictor
# bundle: keep


def serve(folder: str, threads: str) -> None:
    """Load the folder, say so, and answer until the other side closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the messages
    questions = sys.stdin.buffer
    try:
        predictor = Predictor.load(Path(folder), int(threads))
    except Exception as error:
        send(answers, {}, error=f"{type(error).__name__}: {error}")
        return
    send(answers, {})
    while (message := receive(questions)) is not None:
        try:
            answer = predictor.predict(message[0])
        except Exception as error:
            send(answers, {}, error=f"{type(error).__name__}: {error}")
        else:
            send(answers, answer)


serve(*sys.argv[1:])
