"""A child in the foreground: it has the terminal, and ends with us."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from types import FrameType


def run_in_foreground(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a child to its end and give its exit code; on SIGTERM or an interrupt it is told to end, and waited for."""
    ours = threading.current_thread() is threading.main_thread()  # only there can a handler be set
    before = signal.signal(signal.SIGTERM, _end) if ours else None
    try:
        with subprocess.Popen(command, env=dict(environment)) as child:
            try:
                return child.wait()
            except BaseException:
                child.send_signal(signal.SIGTERM)
                child.wait()
                raise
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
