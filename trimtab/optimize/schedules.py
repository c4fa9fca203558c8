"""Learning-rate schedules, an epoch a step, each after a linear warm-up.

Epochs count from 0 here. A warm-up of w epochs has the rate lr * (t + 1) / (w + 1) in epoch t < w, so that epoch w,
the first of the schedule proper, has lr (Goyal et al. 2017, "Accurate, Large Minibatch SGD", arXiv:1706.02677). Worked
example: lr 0.4 and warmup_epochs 3 give 0.1, 0.2, 0.3, then the schedule from 0.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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

EndOfEpoch = Callable[[float], None]
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_RISE = 0.3


def schedule_for(optimizer: Optimizer, settings: Train) -> EndOfEpoch:
    """Put the schedule on the optimizer.

    Returns:
        A function to be called after each epoch with its validation loss; it sets the rate of the next one.
    """
    if settings.schedule == "plateau":
        return _plateau(optimizer, settings)
    scheduler = _by_epoch(optimizer, settings)

    def end_of_epoch(_validation_loss: float) -> None:
        scheduler.step()

    return end_of_epoch


def one_cycle_factor(epoch: int, epochs: int, rise: int) -> float:
    """Share of the largest rate in an epoch: linear from 1/25 to 1 over `rise` epochs, then a half cosine towards 0.

    Smith and Topin 2017, "Super-Convergence", arXiv:1708.07120; momentum is left as it is set.

    Args:
        epoch: from 0, below epochs. rise: in [0, epochs - 1].
    """
    if epoch < rise:
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * epoch / rise
    return 0.5 * (1 + math.cos(math.pi * (epoch - rise) / (epochs - rise)))


def _by_epoch(optimizer: Optimizer, settings: Train) -> LRScheduler:
    if settings.schedule == "one_cycle":
        epochs = settings.epochs
        rise = settings.warmup_epochs or min(max(1, round(ONE_CYCLE_RISE * epochs)), epochs - 1)
        # After the last epoch the factor of an epoch that never comes is asked for.
        return LambdaLR(optimizer, lambda epoch: one_cycle_factor(min(epoch, epochs - 1), epochs, rise))
    if settings.warmup_epochs == 0:
        return _proper(optimizer, settings)
    schedulers = [_warm_up(optimizer, settings), _proper(optimizer, settings)]
    return SequentialLR(optimizer, schedulers, milestones=[settings.warmup_epochs])


def _proper(optimizer: Optimizer, settings: Train) -> LRScheduler:
    if settings.schedule == "cosine":
        # Loshchilov and Hutter 2016, "SGDR", arXiv:1608.03983, without restarts.
        return CosineAnnealingLR(optimizer, T_max=settings.epochs - settings.warmup_epochs)
    if settings.schedule == "step":
        return StepLR(optimizer, settings.step_epochs, settings.step_factor)
    return LambdaLR(optimizer, lambda _epoch: 1.0)


def _warm_up(optimizer: Optimizer, settings: Train) -> LinearLR:
    epochs = settings.warmup_epochs
    return LinearLR(optimizer, start_factor=1 / (epochs + 1), total_iters=epochs)


def _plateau(optimizer: Optimizer, settings: Train) -> EndOfEpoch:
    warm_up = _warm_up(optimizer, settings) if settings.warmup_epochs else None
    # torch lowers the rate when more than `patience` epochs were no better. Threshold 0: what is better is what is
    # better for the early stop.
    plateau = ReduceLROnPlateau(
        optimizer, factor=settings.step_factor, patience=settings.step_epochs - 1, threshold=0.0, eps=0.0
    )
    done = 0

    def end_of_epoch(validation_loss: float) -> None:
        nonlocal done
        done += 1
        if warm_up is not None and done <= settings.warmup_epochs:
            warm_up.step()
        else:
            plateau.step(validation_loss)

    return end_of_epoch
