"""Learning-rate schedules, each after a linear warm-up; the rate moves with every step of the optimizer.

Moved once an epoch, a schedule over one epoch would be none, and one over three would stop halfway down. Plateau alone
waits for the validation loss of an epoch, and `step` falls between epochs.

Steps count from 0 here. A warm-up of w steps has the rate lr * (t + 1) / (w + 1) in step t < w, so that step w, the
first of the schedule proper, has lr (Goyal et al. 2017, "Accurate, Large Minibatch SGD", arXiv:1706.02677). Worked
example: lr 0.4 and a warm-up of 3 steps give 0.1, 0.2, 0.3, then the schedule from 0.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from trimtab.recipe.schema import Train

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_RISE = 0.3


@dataclass(frozen=True)
class Schedule:
    """What moves the rate of an optimizer.

    Attributes:
        after_step: to be called after each step of the optimizer.
        after_epoch: to be called after each epoch with its validation loss.
    """

    after_step: Callable[[], None]
    after_epoch: Callable[[float], None]


def schedule_for(optimizer: Optimizer, settings: Train, steps: int) -> Schedule:
    """Put the schedule on the optimizer, which takes so many steps an epoch."""
    if settings.schedule == "plateau":
        return _plateau(optimizer, settings, steps)
    scheduler = _by_step(optimizer, settings, steps)
    return Schedule(lambda: scheduler.step(), lambda _validation_loss: None)


def one_cycle_factor(step: int, steps: int, rise: int) -> float:
    """Share of the largest rate in a step: linear from 1/25 to 1 over `rise` steps, then a half cosine towards 0.

    Smith and Topin 2017, "Super-Convergence", arXiv:1708.07120; momentum is left as it is set.

    Args:
        step: from 0, below steps. rise: in [0, steps - 1].
    """
    if step < rise:
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * step / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def _by_step(optimizer: Optimizer, settings: Train, steps: int) -> LRScheduler:
    if settings.schedule == "one_cycle":
        total = settings.epochs * steps
        rise = settings.warmup_epochs * steps or min(max(1, round(ONE_CYCLE_RISE * total)), total - 1)
        # After the last step the factor of a step that never comes is asked for.
        return LambdaLR(optimizer, lambda step: one_cycle_factor(min(step, total - 1), total, rise))
    if settings.warmup_epochs == 0:
        return _proper(optimizer, settings, steps)
    schedulers = [_warm_up(optimizer, settings, steps), _proper(optimizer, settings, steps)]
    return SequentialLR(optimizer, schedulers, milestones=[settings.warmup_epochs * steps])


def _proper(optimizer: Optimizer, settings: Train, steps: int) -> LRScheduler:
    if settings.schedule == "cosine":
        # Loshchilov and Hutter 2016, "SGDR", arXiv:1608.03983, without restarts.
        return CosineAnnealingLR(optimizer, T_max=(settings.epochs - settings.warmup_epochs) * steps)
    if settings.schedule == "step":
        return StepLR(optimizer, settings.step_epochs * steps, settings.step_factor)
    return LambdaLR(optimizer, lambda _step: 1.0)


def _warm_up(optimizer: Optimizer, settings: Train, steps: int) -> LinearLR:
    total = settings.warmup_epochs * steps
    return LinearLR(optimizer, start_factor=1 / (total + 1), total_iters=total)


def _plateau(optimizer: Optimizer, settings: Train, steps: int) -> Schedule:
    warm_up = _warm_up(optimizer, settings, steps) if settings.warmup_epochs else None
    # torch lowers the rate when more than `patience` epochs were no better. Threshold 0: what is better is what is
    # better for the early stop.
    plateau = ReduceLROnPlateau(
        optimizer, factor=settings.step_factor, patience=settings.step_epochs - 1, threshold=0.0, eps=0.0
    )
    done, warm = 0, settings.warmup_epochs * steps

    def after_step() -> None:
        nonlocal done
        done += 1
        if warm_up is not None and done <= warm:
            warm_up.step()

    def after_epoch(validation_loss: float) -> None:
        if done > warm:
            plateau.step(validation_loss)

    return Schedule(after_step, after_epoch)
