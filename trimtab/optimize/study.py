"""A study on disk: Optuna's, kept in a journal file, so that a killed search goes on where it was.

A trial has settled when what came of it (a JSON value) was written down with it. One that a kill left running is failed
and its parameters are put in line again. Its sampler is seeded by how many trials settled before, not by Optuna's
number, which counts the killed ones too: the same seed gives the same trials, killed in between or not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from trimtab.candidate import Json
from trimtab.store import os_lock
from trimtab.studies import load_study, quiet_optuna

STARTUP_TRIALS = 5  # drawn at random, and never stopped: the median that stops others is taken of these at least
RESULT = "result"


@dataclass(frozen=True)
class Study:
    """An open study; made by `open_study`.

    Attributes:
        study: Optuna's.
        space: key → distribution. seed: of the samplers.
    """

    study: optuna.Study
    space: Mapping[str, BaseDistribution]
    seed: int

    def settled(self) -> list[FrozenTrial]:
        """Trials that ended with a result, in the order they were made."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state.is_finished() and RESULT in trial.user_attrs]

    def results(self) -> list[dict[str, Json]]:
        """What came of the settled trials."""
        return [dict(trial.user_attrs[RESULT]) for trial in self.settled()]

    def ask(self) -> optuna.Trial:
        """The next trial, all its parameters drawn: one that is in line, else one that is sampled."""
        seed = np.random.SeedSequence([self.seed, len(self.settled())]).generate_state(1)[0]
        self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=int(seed))
        return self.study.ask(dict(self.space))

    def settle(self, trial: optuna.Trial, result: Mapping[str, Json], values: Sequence[float] | None) -> None:
        """Write down what came of a trial, JSON; `values` of the objectives if it was finished."""
        trial.set_user_attr(RESULT, {**result, "objectives": None if values is None else list(values)})
        _tell(self.study, trial.number, trial.user_attrs[RESULT])


@contextlib.contextmanager
def open_study(
    path: Path,
    space: Mapping[str, BaseDistribution],
    *,
    directions: Sequence[Literal["maximize", "minimize"]],
    seed: int,
    warmup_epochs: int,
    first: Mapping[str, Any],
) -> Iterator[Study]:
    """The study of a file, made if absent, for one process at a time; Optuna logs nothing inside.

    Args:
        path: e.g. `<home>/studies/digits-0123456789abcdef.journal`.
        directions: "maximize" or "minimize", one an objective.
        warmup_epochs: no trial is stopped by the median in its first so many epochs.
        first: parameters of the first trial; what is missing is drawn.

    Raises:
        Conflict: another process has it open.
    """
    with os_lock(path.with_suffix(".lock"), wait=False, what=f"the search {path.stem}"), quiet_optuna():
        # Hyperband assigns trials to brackets by Optuna's number: a killed trial would move all that follow.
        pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=warmup_epochs + 1)
        study = load_study(path, directions, pruner)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(dict(first))
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            _take_up(study, trial, space)
        yield Study(study, space, seed)


def _take_up(study: optuna.Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> None:
    """End a trial that a kill left running: with its result if that was written down, else failed and in line again."""
    if RESULT in trial.user_attrs:
        _tell(study, trial.number, trial.user_attrs[RESULT])
        return
    # Killed while its parameters were drawn: they are drawn again, from the same seed and trials.
    whole = trial.params if set(trial.params) == set(space) else {}
    given = {**trial.system_attrs.get("fixed_params", {}), **whole}
    study.tell(trial.number, state=TrialState.FAIL)
    if given:
        study.enqueue_trial(given)


def _tell(study: optuna.Study, number: int, result: Mapping[str, Json]) -> None:
    if result["objectives"] is not None:
        study.tell(number, result["objectives"])
    else:
        study.tell(number, state=TrialState.PRUNED if result["state"] == "stopped" else TrialState.FAIL)
