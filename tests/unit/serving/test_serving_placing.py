"""Threads of the service or worker processes: as the recipe says, or as measured; played by objects."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_world import Softmax
from test_serving_pool import Acted

from trimtab.recipe.schema import Serving
from trimtab.serving import placing
from trimtab.serving.golden import Golden, ReleaseRefused
from trimtab.serving.limits import Limits
from trimtab.serving.options import add_options, read_options
from trimtab.serving.placing import Model, compared, placed
from trimtab.serving.pool import Pool

ROWS = {"input": np.arange(24, dtype=np.float32).reshape(8, 3)}


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    monkeypatch.setattr(Acted, "made", [])
    monkeypatch.setattr(placing, "cores", lambda: 2)


def model(start: Any = lambda *_: Acted(), load: Any = lambda *_: Softmax(), recorded: Any = None) -> Model:
    answers = Softmax().predict(ROWS)["probabilities"] if recorded is None else recorded
    golden = Golden(ROWS, answers, "probabilities", False, 1e-3, Path("release"))
    return Model("onnxruntime-cpu", Path("release"), golden, golden.prove, load, start)


def never(*_: Any) -> Any:
    raise AssertionError("was not to be loaded")


def rates(monkeypatch, here: list[float], apart: list[float]) -> None:
    """What is measured, in the order of the rounds."""
    drawn = {False: itertools.cycle(here), True: itertools.cycle(apart)}
    monkeypatch.setattr(placing, "_rate", lambda predictor, *_: next(drawn[isinstance(predictor, Pool)]))


def test_with_a_number_every_process_is_proven_and_the_service_loads_no_runtime():
    predictor, plan = placed(model(load=never), Limits(processes=3, batching="off"))
    assert isinstance(predictor, Pool)
    assert (plan.processes, plan.workers, len(Acted.made)) == (3, 3, 3)
    assert all(8 in process.calls for process in Acted.made)
    predictor.close()


def test_with_none_no_process_is_started():
    predictor, plan = placed(model(start=never), Limits(batching="off"))
    assert isinstance(predictor, Softmax)
    assert plan.processes == 0


def test_one_process_that_answers_otherwise_refuses_the_release_and_leaves_none():
    with pytest.raises(ReleaseRefused, match="golden rows"):
        placed(model(recorded=np.full((8, 3), 0.25, np.float32)), Limits(processes=2))
    assert all(process.ended.wait(10) for process in Acted.made)


@pytest.mark.parametrize(
    ("here", "apart", "taken"),
    [
        ([100.0], [150.0], True),
        ([100.0], [102.0], False),  # a gain, and no more than counts as noise
        ([100.0, 100.0, 151.0, 100.0, 100.0], [150.0], False),  # not in every round
        ([150.0], [100.0], False),
    ],
)
def test_measured_they_are_taken_where_they_are_faster_by_more_than_the_noise(monkeypatch, here, apart, taken):
    rates(monkeypatch, here, apart)
    predictor, plan = placed(model(), Limits(processes=None, batching="off"))
    assert isinstance(predictor, Pool) is taken
    assert plan.processes == (2 if taken else 0)
    assert "rows a second of processes and of threads" in plan.why
    if taken:
        predictor.close()
    assert all(process.ended.wait(10) for process in Acted.made)


def test_rounds_alternate():
    order: list[str] = []
    compared(lambda: order.append("here") or 1.0, lambda: order.append("apart") or 2.0)
    assert order == ["here", "apart"] * placing.ROUNDS


def test_without_cores_for_a_second_process_none_is_started():
    _, plan = placed(model(start=never), Limits(processes=None, threads=2, batching="off"))
    assert plan.processes == 0
    assert "no cores" in plan.why


def test_measured_processes_that_cannot_be_had_leave_the_threads_and_say_why():
    def fail(*_: Any) -> Any:
        raise OSError("out of memory")

    predictor, plan = placed(model(start=fail), Limits(processes=None, batching="off"))
    assert isinstance(predictor, Softmax)
    assert "no processes: OSError: out of memory" in plan.why


def test_rows_a_second_are_counted_with_the_rows_that_share_a_call(monkeypatch):
    monkeypatch.setattr("trimtab.serving.measuring.RATE_S", 0.0)
    asked = Softmax()
    plan = placing.Plan(shares=True, took=(0.0, 1.0, 1.1, 1.2, 1.3), max_wait_s=100.0)
    ticks = itertools.count()
    found = placing._rate(asked, model(), plan, lambda: float(next(ticks)))
    assert set(asked.calls) == {4}
    assert found == pytest.approx(4 * len(asked.calls) / (next(ticks) - 1))


@pytest.mark.parametrize("text", ["-1", "65", "many", "1.5", ""])
def test_the_command_line_refuses_what_is_no_number_of_processes(text, capsys):
    parser = argparse.ArgumentParser()
    add_options(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--processes={text}"])
    assert "--processes" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "meant"), [("auto", "auto"), ("0", 0), ("2", 2)])
def test_the_command_line_has_the_last_word(text, meant):
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert read_options(parser.parse_args(["--processes", text])).place.processes == meant


def test_the_recipe_says_calls_at_once_in_one_place():
    assert Serving(processes=2).workers == "auto"
    assert Serving(processes="auto", workers=3).workers == 3
    with pytest.raises(ValueError, match="leave it out"):
        Serving(processes=2, workers=3)
