"""How others see that hands in MLflow are seen: a file that is touched after each round in which all was answered."""

from __future__ import annotations

import time
from pathlib import Path

STALE_S = 60.0  # settling one name takes seconds, and the next round waits for it


def beat_file(home: Path) -> Path:
    """Where it lies in a state directory."""
    return home / "supervisor" / "registry-watch.beat"


def beat(path: Path) -> None:
    """Say that a round went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def beats(path: Path, started: float) -> bool:
    """Whether the process that was started then (seconds since 1970) has had a round that went well just now."""
    try:
        last = path.stat().st_mtime
    except OSError:
        return False
    return last >= started and time.time() - last < STALE_S
