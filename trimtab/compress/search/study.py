"""The Optuna study of a search: kept in a journal file, gone on with after a kill, same trials for the same seed."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import TrialState

STARTUP_TRIALS = 8  # of the sampler, besides the design
DIRECTIONS = [StudyDirection.MINIMIZE, StudyDirection.MINIMIZE]  # divergence, latency relative to the uncut original


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna's own lines and its warnings about experimental parts off for the block."""
    logger = logging.getLogger("optuna")
    was = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        logger.setLevel(was)


class Study:
    """A multi-objective study on disk.

    Args:
        path: the journal file; made if missing.
        name: what the search is of; another name is another study in the same file.
        seed: of the sampler. Each trial has a sampler of its own, seeded by this and its number, so that what is
            proposed depends on the trials before it alone, and not on how often the search was killed.
        design: parameters of the first trials.

    A trial that a kill left unfinished is proposed again, before any other.
    """

    def __init__(self, path: Path, name: str, seed: int, design: Sequence[dict[str, Any]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.seed = seed
        with quiet_optuna():
            storage = JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
            self.optuna = optuna.create_study(
                storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True
            )
            if not self.optuna.trials:
                for parameters in design:
                    self.optuna.enqueue_trial(parameters)
            for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                self.optuna.tell(trial.number, state=TrialState.FAIL)
                self.optuna.enqueue_trial(trial.params, user_attrs={"again": trial.number})

    def ask(self) -> optuna.Trial:
        """The next trial."""
        with quiet_optuna():
            self.optuna.sampler = optuna.samplers.TPESampler(
                seed=self.seed + len(self.done()),
                multivariate=True,
                group=True,
                n_startup_trials=STARTUP_TRIALS,
            )
            return self.optuna.ask()

    def tell(self, trial: optuna.Trial, values: Sequence[float] | None, facts: dict[str, Any]) -> None:
        """Finish a trial; without values it has failed. `facts` are kept with it."""
        with quiet_optuna():
            for key, value in facts.items():
                trial.set_user_attr(key, value)
            state = TrialState.COMPLETE if values is not None else TrialState.FAIL
            self.optuna.tell(trial, values, state=state)

    def done(self) -> list[optuna.trial.FrozenTrial]:
        """Trials that ended with facts, whether they failed or not, in the order in which they were made."""
        ended = (TrialState.COMPLETE, TrialState.FAIL)
        return [t for t in self.optuna.get_trials(deepcopy=False, states=ended) if "shape" in t.user_attrs]

    def recall(self, key: str) -> Any:
        """What was decided once for this study, or None."""
        return self.optuna.user_attrs.get(key)

    def decide(self, key: str, value: Any) -> Any:
        """Keep a decision, unless it was made before; what holds from now on."""
        if key not in self.optuna.user_attrs:
            with quiet_optuna():
                self.optuna.set_user_attr(key, value)
        return self.optuna.user_attrs[key]
