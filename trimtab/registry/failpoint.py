"""Named points at which a test can kill the process, to prove that the next call finishes or removes what was begun.

A test hook: with `TRIMTAB_FAILPOINT=register.finalize:after` in the environment the process kills itself (SIGKILL, no
cleanup) when it gets there. Off unless that variable is set.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

VARIABLE = "TRIMTAB_FAILPOINT"


def reach(name: str) -> None:
    """Die here if the environment names this point."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def around(name: str) -> Iterator[None]:
    """The points `<name>:before` and `<name>:after` around one remote call or local write."""
    reach(f"{name}:before")
    yield
    reach(f"{name}:after")
