"""Search for the original's settings and architecture: Optuna's TPE on a persisted study, each trial a training.

One objective: validation accuracy; a trial below the median of others after as many epochs is stopped. Two: accuracy
and latency, which is measured before training, since it does not depend on weights, and once an architecture.

A trial trains the very candidate that the original becomes if its values are chosen: the weights of complete trials
stay in the store, and the chosen one is not trained again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna

from trimtab.candidate import Candidate, Json, digest_of
from trimtab.errors import ConversionError, ModelError, RecipeError, UnsupportedError, UserCodeError
from trimtab.optimize.original import make_original, planned_original
from trimtab.optimize.space import decoded, distributions, own_values
from trimtab.optimize.study import STARTUP_TRIALS, Study, open_study
from trimtab.optimize.tried import Speed, State, Tried, dominated
from trimtab.recipe.schema import Search
from trimtab.recipe.searching import KWARGS
from trimtab.workbench import Workbench

MeasureSpeed = Callable[[Mapping[str, Json]], Speed]
Progress = Callable[[int, int, str], None]
# What values can do to a training: the trial has failed, the search goes on.
OF_THE_VALUES = (ModelError, UserCodeError, RecipeError, UnsupportedError, ConversionError)
SPEED = "speed"


def search(
    bench: Workbench,
    warm_start: str | None = None,
    speed_of: MeasureSpeed | None = None,
    settled: Callable[[Tried], None] | None = None,
    progress: Progress | None = None,
) -> list[Tried]:
    """Make the recipe's trials, those that are missing; all of them, in order.

    The first trial has the recipe's own values, where they lie in the space. No trial is begun once the trials have
    taken `minutes` together, kills or not.

    Args:
        warm_start: as for `make_original`, of every trial.
        speed_of: arguments of the model's callable → latency; needed for `objective: metric_and_latency`.
        settled: called with each trial that is made now. progress: with (trials done, trials in all, what).

    Raises:
        ModelError: no trial is complete. Conflict: another process is at the same search.
    """
    wanted = _search_of(bench)
    two = wanted.objective == "metric_and_latency"
    if two and speed_of is None:
        raise ValueError("objective: metric_and_latency needs speed_of")
    with open_study(
        study_path(bench, warm_start),
        distributions(wanted),
        directions=["maximize", "minimize"] if two else ["maximize"],
        seed=bench.recipe.train.seed,
        warmup_epochs=wanted.pruner_warmup_epochs,
        first=own_values(bench.recipe, wanted),
    ) as study:
        tried = [Tried.from_json(value) for value in study.results()]
        while len(tried) < wanted.trials and not (tried and _over(wanted, tried)):
            trial = _Trial(bench, wanted, study, tried, study.ask(), warm_start, speed_of if two else None, progress)
            tried.append(trial.run())
            if settled is not None:
                settled(tried[-1])
    if all(one.state != "complete" for one in tried):
        raise ModelError(
            f"none of {len(tried)} trials could be trained to its end; the first: {tried[0].reason}",
            where=f"{bench.code.path}: train.search",
            fix="correct what it says, or narrow train.search.space",
        )
    return tried


def study_path(bench: Workbench, warm_start: str | None = None) -> Path:
    """The file of a recipe's study. Other data, code, settings or space: another file; more trials or minutes: not."""
    wanted, recipe = _search_of(bench), bench.recipe
    measured = [recipe.targets, recipe.measure.model_dump()] if wanted.objective == "metric_and_latency" else []
    digest = digest_of(
        [
            vars(bench.inputs),
            recipe.train.model_dump(mode="json", exclude={"search", "loss"}),
            wanted.model_dump(mode="json", exclude={"trials", "minutes"}),
            warm_start,
            measured,
        ]
    )
    return bench.settings.studies / f"{recipe.name}-{digest[:16]}.journal"


def _search_of(bench: Workbench) -> Search:
    wanted = bench.recipe.train.search
    if wanted is None:
        raise RecipeError("there is none", where="train.search", fix="give a space to search")
    return wanted


def _over(wanted: Search, tried: list[Tried]) -> bool:
    return wanted.minutes is not None and sum(one.seconds for one in tried) >= 60 * wanted.minutes


class _Trial:
    """One trial, from the values that were drawn to what came of them."""

    def __init__(
        self,
        bench: Workbench,
        wanted: Search,
        study: Study,
        tried: list[Tried],
        trial: optuna.Trial,
        warm_start: str | None,
        speed_of: MeasureSpeed | None,
        progress: Progress | None,
    ) -> None:
        self.bench, self.wanted, self.study, self.tried, self.trial = bench, wanted, study, tried, trial
        self.warm_start, self.speed_of, self.progress = warm_start, speed_of, progress
        self.values = decoded(trial.params, wanted)
        self.speed: Speed | None = None
        self.epochs: list[dict[str, float]] = []

    def run(self) -> Tried:
        started = time.monotonic()
        state: State = "complete"
        reason, made = "", None
        try:
            if self.speed_of is not None:
                self.speed = self._measured(self.speed_of)
            made = self._train()
        except optuna.TrialPruned as stopped:
            state, reason = "stopped", str(stopped)
        except OF_THE_VALUES as error:
            state, reason = "failed", f"{type(error).__name__}: {error}"
        kept = min(self.epochs, key=lambda figures: figures["validation_loss"], default=None)
        tried = Tried(
            number=len(self.tried),
            values=self.values,
            state=state,
            accuracy=None if kept is None else kept["validation_accuracy"],
            loss=None if kept is None else kept["validation_loss"],
            curve=tuple(figures["validation_accuracy"] for figures in self.epochs),
            seconds=time.monotonic() - started,
            speed=self.speed,
            candidate=None if made is None else made.id,
            reason=reason,
        )
        self.study.settle(self.trial, tried.to_json(), tried.objectives())
        return tried

    def _measured(self, speed_of: MeasureSpeed) -> Speed:
        """Measured once an architecture, also across a kill: twice the same would be two latencies of one thing."""
        kwargs = {key.removeprefix(KWARGS): value for key, value in self.values.items() if key.startswith(KWARGS)}
        for earlier in self.study.study.get_trials(deepcopy=False):
            if (known := earlier.user_attrs.get(SPEED)) and known["kwargs"] == kwargs:
                return Speed(**known["speed"])
        speed = speed_of(kwargs)
        self.trial.set_user_attr(SPEED, {"kwargs": kwargs, "speed": vars(speed)})
        return speed

    def _train(self) -> Candidate:
        bench = self.bench
        done = bench.stored(planned_original(bench, self.warm_start, self.values).id)
        made = done or bench.keep(make_original(bench, self.warm_start, self._epoch, self.values))
        history = json.loads((bench.folder(made.id) / "history.json").read_text())
        if bench.recipe.model.train is not None:
            self.epochs = history  # their own training has no epochs that we see
        elif done is not None:  # trained before, by a trial that was killed or had the same values
            for figures in history:
                self._epoch(int(figures["epoch"]), len(history), figures)
        return made

    def _epoch(self, epoch: int, epochs: int, figures: dict[str, float]) -> None:
        self.epochs.append(figures)
        if self.progress is not None:
            what = f"trials; epoch {epoch} of {epochs}, validation accuracy {figures['validation_accuracy']:.1%}"
            self.progress(len(self.tried), self.wanted.trials, what)
        if self.speed is None:
            self.trial.report(figures["validation_accuracy"], epoch)
            hopeless = self.trial.should_prune()
        else:
            curve = [figures["validation_accuracy"] for figures in self.epochs]
            late = epoch > self.wanted.pruner_warmup_epochs
            hopeless = late and dominated(self.tried, self.speed.share, curve, STARTUP_TRIALS)
        if hopeless and epoch < epochs:  # after the last epoch there is nothing left to save
            others = "trials" if self.speed is None else "trials that are no slower"
            raise optuna.TrialPruned(f"below the median of other {others} after {epoch} epochs")
