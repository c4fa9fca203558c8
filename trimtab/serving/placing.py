"""Where a release's model runs: in threads of the service, or in worker processes; as the recipe says, or as measured.

Processes are taken by measurement only where they answer more rows a second than the threads of the best plan without
them, by more than the noise: in every one of some rounds that alternate, and by what else counts as a gain.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from trimtab.errors import StateError
from trimtab.serving.golden import Golden, Predictor
from trimtab.serving.limits import Limits
from trimtab.serving.measuring import MOST_WORKERS, Clock, Subject, cores, plan_for, rate
from trimtab.serving.plan import PAYS, Plan
from trimtab.serving.pool import Pool, Process

Load = Callable[[str, Path, int], Predictor]
Start = Callable[[str, Path, int], Process]
ROUNDS = 5  # of chance, all of one come out above all of the other once in 252 times
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """What is to be run.

    Attributes:
        golden: its golden rows. accept: raises where a predictor of it must not serve.
        load: gives the predictor of (target, folder, threads). start: starts it in a process.
    """

    target: str
    folder: Path
    golden: Golden
    accept: Callable[[Predictor], None]
    load: Load
    start: Start


def placed(model: Model, limits: Limits) -> tuple[Predictor, Plan]:
    """A predictor that was accepted, and how it is called; in `limits.processes` processes, None as measured.

    Raises:
        StateError: there are no worker processes on this system.
        Exception: whatever loading, starting or accepting raises; no process is left then.
    """
    if limits.processes:
        return _apart(model, limits, limits.processes)
    predictor = model.load(model.target, model.folder, limits.threads)
    model.accept(predictor)
    here = plan_for(Subject(predictor, model.golden.rows), limits)
    if limits.processes == 0:
        return predictor, here
    count = min(cores() // limits.threads, MOST_WORKERS)
    if count < 2:
        return predictor, replace(here, why=f"{here.why}; no cores for a second process of {limits.threads} threads")
    try:
        pool, apart = _apart(model, limits, count)
    except Exception as error:  # e.g. memory for one but not for more; it serves all the same
        _logger.warning("worker processes cannot be had, so none are used", exc_info=error)
        return predictor, replace(here, why=f"{here.why}; no processes: {type(error).__name__}: {error}")
    better, why = compared(partial(_rate, predictor, model, here), partial(_rate, pool, model, apart))
    if better:
        return pool, replace(apart, why=f"{apart.why}; {count} processes: {why}")
    pool.close()
    return predictor, replace(here, why=f"{here.why}; no processes: {why}")


def compared(here: Callable[[], float], apart: Callable[[], float]) -> tuple[bool, str]:
    """Whether processes answer more than threads, by more than the noise, and what that was decided from.

    Args:
        here: rows a second of threads, measured when called. apart: of processes.
    """
    threads, processes = [], []
    for _ in range(ROUNDS):
        threads.append(here())
        processes.append(apart())
    better = min(processes) > max(threads) and median(processes) * PAYS >= median(threads)
    shown = " and ".join(
        f"{median(rates):.6g} ({min(rates):.6g} to {max(rates):.6g})" for rates in (processes, threads)
    )
    return better, f"rows a second of processes and of threads: {shown}"


def _apart(model: Model, limits: Limits, count: int) -> tuple[Pool, Plan]:
    if os.name != "posix":
        raise StateError("needs a POSIX system", where="serving.processes", fix="leave it at 0")
    pool = Pool(partial(model.start, model.target, model.folder, limits.threads), count, model.accept)
    try:
        plan = plan_for(Subject(pool, model.golden.rows), replace(limits, workers=count))
    except BaseException:
        pool.close()
        raise
    return pool, replace(plan, processes=count)


def _rate(predictor: Predictor, model: Model, plan: Plan, clock: Clock = time.perf_counter) -> float:
    """Rows a second, called as the plan has it when the queue is full."""
    rows = plan.together(itertools.repeat(1, plan.max_rows))
    return rows * rate(Subject(predictor, model.golden.rows), plan.workers, clock, rows)
