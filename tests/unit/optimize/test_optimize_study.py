"""A study that is killed anywhere goes on as if it had not been."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from trimtab.errors import Conflict
from trimtab.optimize.study import open_study

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "kind": CategoricalDistribution(["a", "b", "c"]),
}
# Trials of a function; in trial `die_at` the process is gone, as by `kill -9`, with half a line in the file or without.
CHILD = """
import os, sys
from pathlib import Path
from tests.unit.optimize.test_optimize_study import trials
trials(Path(sys.argv[1]), int(sys.argv[2]), die_at=int(sys.argv[3]), tear=bool(int(sys.argv[4])))
"""


def opened(path: Path) -> Any:
    return open_study(path, SPACE, directions=["maximize"], seed=3, warmup_epochs=1, first={"kind": "b"})


def trials(path: Path, count: int, die_at: int | None = None, tear: bool = False) -> list[dict[str, Any]]:
    """Settle trials until there are `count`; what is known of all of them."""
    import os

    with opened(path) as study:
        while (number := len(study.settled())) < count:
            trial = study.ask()
            trial.report(trial.params["lr"], 1)
            if number == die_at:
                if tear:
                    with path.open("ab") as stream:
                        stream.write(b'{"op_code":7,"work')
                os._exit(9)
            value = -((trial.params["lr"] - 0.1) ** 2) - (trial.params["kind"] != "c")
            stopped = number % 4 == 3
            result = {"number": number, "state": "stopped" if stopped else "complete", "params": trial.params}
            study.settle(trial, result, None if stopped else [value])
        return study.results()


@pytest.mark.parametrize(("die_at", "tear"), [(3, False), (7, True)])  # drawn at random; sampled from what was found
def test_a_killed_study_makes_the_trials_it_would_have_made(tmp_path: Path, die_at: int, tear: bool) -> None:
    whole = trials(tmp_path / "whole.journal", 10)

    path = tmp_path / "killed.journal"
    arguments = [str(path), "10", str(die_at), str(int(tear))]
    done = subprocess.run([sys.executable, "-c", CHILD, *arguments], cwd=Path(__file__).parents[3])
    assert done.returncode == 9
    with opened(path) as study:
        assert len(study.settled()) == die_at  # those before the kill are there and not made again

    assert trials(path, 10) == whole
    assert whole[0]["params"]["kind"] == "b"  # the first trial's, given
    assert len({json.dumps(result["params"]) for result in whole}) == 10


def test_a_trial_whose_result_was_written_when_the_kill_came_is_not_made_again(tmp_path: Path) -> None:
    with opened(tmp_path / "s.journal") as study:
        trial = study.ask()
        trial.set_user_attr("result", {"number": 0, "state": "complete", "objectives": [0.5]})
    with opened(tmp_path / "s.journal") as study:
        (settled,) = study.settled()
        assert settled.values == [0.5]
        assert study.ask().number == 1


def test_a_trial_killed_while_its_parameters_were_drawn_keeps_those_it_was_given(tmp_path: Path) -> None:
    with opened(tmp_path / "s.journal") as study:
        study.study.ask()  # nothing drawn yet
    with opened(tmp_path / "s.journal") as study:
        assert study.ask().params["kind"] == "b"


def test_two_processes_do_not_search_the_same_study(tmp_path: Path) -> None:
    with opened(tmp_path / "s.journal"), pytest.raises(Conflict), opened(tmp_path / "s.journal"):
        pass


def test_optuna_says_nothing_and_its_logger_is_as_before(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("optuna").level
    trials(tmp_path / "s.journal", 2)

    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("optuna").level == level
