"""Optuna studies on disk: a journal file that a killed process leaves readable, and nothing of Optuna's in the log."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


def load_study(
    path: Path, directions: Sequence[Literal["maximize", "minimize"]], pruner: optuna.pruners.BasePruner | None = None
) -> optuna.Study:
    """The study of a file, made if absent; the caller sees to it that no other process has it open.

    Args:
        path: e.g. `<home>/studies/digits-0123456789abcdef.journal`.
        directions: one an objective.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(path)
    with quiet_optuna():
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path), _NoLock(str(path)))),
            study_name=path.stem,
            directions=list(directions),
            pruner=pruner,
            load_if_exists=True,
        )


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna's own lines and its warnings about experimental parts off for the block."""
    log = logging.getLogger("optuna")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        log.setLevel(level)


class _NoLock(JournalFileOpenLock):
    """Optuna's own lock is a file that outlives a killed process; one of ours, on the whole study, does not."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


def _drop_torn_line(path: Path) -> None:
    """A kill may have cut the last line short; what is appended to it would make the file unreadable."""
    if path.is_file() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        with path.open("r+b") as stream:
            stream.truncate(data.rfind(b"\n") + 1)
