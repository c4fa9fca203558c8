"""The Optuna study of a search: kept in a journal file, gone on with after a kill, same trials for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import TrialState

from trimtab.studies import load_study, quiet_optuna

KILLED = "killed"  # a trial that another process left unfinished
STARTUP_TRIALS = 8  # of the sampler, besides the design
DIRECTIONS: list[Literal["maximize", "minimize"]] = ["minimize", "minimize"]  # divergence, relative latency


class Study:
    """A multi-objective study on disk.

    Args:
        path: the journal file; made if missing.
        seed: of the sampler. Each trial has a sampler of its own, seeded by this and its number, so that what is
            proposed depends on the trials before it alone, and not on how often the search was killed.
        design: parameters of the first trials.

    A trial that a kill left unfinished counts as never begun: the same parameters come again.
    """

    def __init__(self, path: Path, seed: int, design: Sequence[dict[str, Any]]) -> None:
        self.seed = seed
        self.optuna = load_study(path, DIRECTIONS)
        self.design = list(design)
        with quiet_optuna():
            for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                # Its facts may have been written before the kill: what says that they do not count is written first.
                self.optuna._storage.set_trial_user_attr(trial._trial_id, KILLED, True)
                self.optuna.tell(trial.number, state=TrialState.FAIL)

    def ask(self) -> optuna.Trial:
        """The next trial: of the design while that lasts, else one that is sampled."""
        number = len(self.done())
        with quiet_optuna():
            self.optuna.sampler = optuna.samplers.TPESampler(
                seed=self.seed + number, multivariate=True, group=True, n_startup_trials=STARTUP_TRIALS
            )
            waiting = self.optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            if number < len(self.design) and not waiting:
                self.optuna.enqueue_trial(self.design[number])
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
        trials = self.optuna.get_trials(deepcopy=False, states=ended)
        return [t for t in trials if "shape" in t.user_attrs and KILLED not in t.user_attrs]

    def recall(self, key: str) -> Any:
        """What was decided once for this study, or None."""
        return self.optuna.user_attrs.get(key)

    def decide(self, key: str, value: Any) -> Any:
        """Keep a decision, unless it was made before; what holds from now on."""
        if key not in self.optuna.user_attrs:
            with quiet_optuna():
                self.optuna.set_user_attr(key, value)
        return self.optuna.user_attrs[key]
