"""Schedules: the rate of every step, with and without warm-up, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from trimtab.optimize.schedules import one_cycle_factor, schedule_for
from trimtab.recipe.schema import Train


def rates(losses: list[float] | None = None, steps: int = 1, **settings: Any) -> list[float]:
    """The rate of each step, with these validation losses of the epochs (all the same by default)."""
    train = Train(optimizer="gd", lr=0.8, **{"epochs": 8, "patience": 8, **settings})
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=train.lr)
    schedule = schedule_for(optimizer, train, steps)
    seen = []
    for loss in losses or [1.0] * train.epochs:
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(loss)
    return seen


def half_cosine(epoch: int, epochs: int) -> float:
    return 0.4 * (1 + math.cos(math.pi * epoch / epochs))


WARM = [0.2, 0.4, 0.6]


def test_constant_warms_up_and_stays() -> None:
    assert rates(schedule="constant") == [0.8] * 8
    assert rates(schedule="constant", warmup_epochs=3) == pytest.approx([*WARM, *[0.8] * 5])


def test_step_multiplies_every_so_many_epochs_after_the_warm_up() -> None:
    step = {"schedule": "step", "step_epochs": 2, "step_factor": 0.25}
    assert rates(**step) == pytest.approx([0.8, 0.8, 0.2, 0.2, 0.05, 0.05, 0.0125, 0.0125])
    assert rates(**step, warmup_epochs=3) == pytest.approx([*WARM, 0.8, 0.8, 0.2, 0.2, 0.05])


def test_cosine_falls_over_the_epochs_after_the_warm_up() -> None:
    assert rates(schedule="cosine") == pytest.approx([half_cosine(t, 8) for t in range(8)])
    warm = rates(schedule="cosine", warmup_epochs=3)
    assert warm == pytest.approx([*WARM, *(half_cosine(t, 5) for t in range(5))])


def test_one_cycle_rises_over_the_warm_up_and_falls_over_the_rest() -> None:
    seen = rates(schedule="one_cycle", warmup_epochs=3)
    rise = [0.8 / 25 + (0.8 - 0.8 / 25) * t / 3 for t in range(3)]
    assert seen == pytest.approx([*rise, *(half_cosine(t, 5) for t in range(5))])
    assert max(rates(schedule="one_cycle")) == 0.8
    assert rates(schedule="one_cycle").index(0.8) == round(0.3 * 8)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_one_cycle_has_rates_above_zero_in_the_shortest_trainings(epochs: int) -> None:
    seen = rates(schedule="one_cycle", epochs=epochs)
    assert len(seen) == epochs
    assert min(seen) > 0
    assert max(seen) == 0.8
    assert one_cycle_factor(0, 1, 0) == 1


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_the_shortest_trainings_end_near_zero_and_have_seen_the_whole_rate(schedule: str, epochs: int) -> None:
    seen = rates(schedule=schedule, epochs=epochs, steps=100)
    assert len(seen) == 100 * epochs
    assert max(seen) == pytest.approx(0.8)
    assert 0 < seen[-1] < 0.001 * 0.8


def test_many_steps_an_epoch_make_the_same_curve_finer() -> None:
    for settings in ({"schedule": "constant"}, {"schedule": "cosine"}, {"schedule": "step", "step_epochs": 2}):
        fine = rates(steps=10, **settings)
        assert fine[::10] == pytest.approx(rates(**settings))
        assert fine == sorted(fine, reverse=True)
    falls = rates(steps=10, schedule="step", step_epochs=2)
    assert falls[19:21] == pytest.approx([0.8, 0.4])  # between two epochs and at no other step
    rise = rates(steps=10, schedule="constant", warmup_epochs=3)
    assert rise[:31] == pytest.approx([0.8 * (t + 1) / 31 for t in range(31)])
    assert rise[31:] == pytest.approx([0.8] * 49)


def test_plateau_waits_for_the_losses_of_epochs() -> None:
    plateau = {"schedule": "plateau", "step_epochs": 1, "step_factor": 0.5, "warmup_epochs": 1}
    seen = rates([1.0] * 4, steps=3, epochs=4, patience=4, **plateau)
    assert seen == pytest.approx([0.2, 0.4, 0.6, *[0.8] * 6, *[0.4] * 3])


def test_plateau_falls_after_step_epochs_without_a_better_loss() -> None:
    plateau = {"schedule": "plateau", "step_epochs": 2, "step_factor": 0.5}
    losses = [1.0, 0.9, 0.9, 0.95, 0.8, 0.8, 0.8, 0.8]
    # 0.9 in the second epoch is not bettered in the third and fourth: the fifth has half the rate. And so on.
    assert rates(losses, **plateau) == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2])


def test_plateau_counts_from_the_end_of_the_warm_up() -> None:
    plateau = {"schedule": "plateau", "step_epochs": 1, "step_factor": 0.5, "warmup_epochs": 3}
    assert rates([1.0] * 8, **plateau) == pytest.approx([*WARM, 0.8, 0.8, 0.4, 0.2, 0.1])


def test_the_smallest_improvement_counts_for_the_plateau_as_for_the_early_stop() -> None:
    losses = [1 - 1e-6 * epoch for epoch in range(8)]
    assert rates(losses, schedule="plateau", step_epochs=1) == [0.8] * 8
