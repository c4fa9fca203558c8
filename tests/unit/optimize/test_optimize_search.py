"""A search of tiny networks: what it stops, what it repeats, what it chooses, and what is built from its choice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trimtab.compress.opening import open_torch
from trimtab.errors import ModelError
from trimtab.optimize import search as searching
from trimtab.optimize.original import make_original, planned_original
from trimtab.optimize.search import search, study_path
from trimtab.optimize.tried import Speed, Tried, choose
from trimtab.settings import Settings
from trimtab.workbench import Workbench

CODE = """
import numpy as np, torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    draw = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    labels = draw.integers(0, 3, 90)
    rows = draw.normal(size=(90, 4)) + np.eye(4)[labels] * 4
    return TensorDataset(torch.tensor(rows, dtype=torch.float32), torch.tensor(labels))

def build(hidden=4):
    if hidden == 13:
        raise ValueError("unlucky")
    return nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))
"""
HEAD = "name: tiny\nmodel: search_net:build\ndata: search_net:split\ncompress: {quantize: null}\n"


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def bench(
    folder: Path, space: str, more: str = "", train: str = "epochs: 2, lr: 0.02", home: str = "home"
) -> Workbench:
    folder.mkdir(exist_ok=True)
    (folder / "search_net.py").write_text(CODE)
    (folder / "recipe.yaml").write_text(
        f"{HEAD}train: {{{train}, threads: 1, search: {{{more} space: {{{space}}}}}}}\n"
    )
    return Workbench(folder / "recipe.yaml", Settings(home=folder / home))


def what(tried: list[Tried]) -> list[dict[str, Any]]:
    """All of trials but how long they took."""
    return [{**one.to_json(), "seconds": 0} for one in tried]


SPACE = "train.lr: {low: 0.001, high: 0.1, log: true}, model.kwargs.hidden: {low: 2, high: 12}"


def test_a_search_that_is_killed_ends_as_one_that_is_not(tmp_path: Path) -> None:
    whole = search(bench(tmp_path, SPACE, "trials: 6,", home="whole"))

    def kill_in_the_fourth(done: int, total: int, said: str) -> None:
        if done == 3 and "epoch 2" in said:
            raise Killed

    with pytest.raises(Killed):
        search(bench(tmp_path, SPACE, "trials: 6,", home="killed"), progress=kill_in_the_fourth)
    settled: list[Tried] = []
    resumed = search(bench(tmp_path, SPACE, "trials: 6,", home="killed"), settled=settled.append)

    assert what(resumed) == what(whole)
    assert [one.number for one in settled] == [3, 4, 5]  # the first three are not made again
    assert len({one.candidate for one in whole}) == 6


def test_more_trials_go_on_with_the_same_study_and_another_space_does_not(tmp_path: Path) -> None:
    path = study_path(bench(tmp_path, SPACE, "trials: 6,"))

    assert study_path(bench(tmp_path, SPACE, "trials: 9, minutes: 5,")) == path
    assert study_path(bench(tmp_path, SPACE.replace("12", "14"), "trials: 6,")) != path
    assert study_path(bench(tmp_path, SPACE, "trials: 6,", train="epochs: 3, lr: 0.02")) != path


def test_no_trial_is_begun_when_the_minutes_are_over(tmp_path: Path) -> None:
    assert len(search(bench(tmp_path, SPACE, "trials: 6, minutes: 1e-9,"))) == 1


def test_a_hopeless_trial_is_stopped_before_its_last_epoch(tmp_path: Path) -> None:
    space = "train.lr: {choices: [0.02, 1e-7]}"
    tried = search(bench(tmp_path, space, "trials: 14, pruner_warmup_epochs: 1,", train="epochs: 5, lr: 0.02"))

    hopeless = [one for one in tried if one.values["train.lr"] != 0.02]
    stopped = [one for one in tried if one.state == "stopped"]
    assert stopped
    assert all(one in hopeless and one.candidate is None and len(one.curve) < 5 for one in stopped)
    assert min(len(one.curve) for one in stopped) == 2  # not in the epoch of the warm-up
    assert choose(tried, 90).values == {"train.lr": 0.02}  # type: ignore[union-attr]


def test_the_chosen_trial_is_the_original_and_is_built_with_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = bench(tmp_path, "model.kwargs.hidden: {choices: [7, 9]}", "trials: 2,")
    chosen = choose(search(here), 90)
    assert chosen is not None

    planned = planned_original(here, None, chosen.values)
    original = here.stored(planned.id)
    assert original is not None
    assert chosen.candidate == planned.id != planned_original(here, None).id
    assert open_torch(here, original)[0].out_features == chosen.values["model.kwargs.hidden"]  # type: ignore[index]
    again = make_original(here, None, None, chosen.values)
    assert again.files == original.files  # initial weights are drawn from the seed too

    # Another study that comes to the same candidates takes them from the store.
    monkeypatch.setattr(searching, "make_original", None)
    assert {one.candidate for one in search(bench(tmp_path, "model.kwargs.hidden: {choices: [9, 7]}", "trials: 1,"))}


def test_how_values_were_found_is_no_part_of_the_identity(tmp_path: Path) -> None:
    here = bench(tmp_path, "train.lr: {low: 0.001, high: 0.1}")
    written = bench(tmp_path, "train.weight_decay: {low: 0.1, high: 0.2}", train="epochs: 2, lr: 0.05")

    assert planned_original(here, None, {"train.lr": 0.05}).id == planned_original(written, None).id


def test_a_trial_that_cannot_be_built_has_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    tried = search(bench(tmp_path, "model.kwargs.hidden: {choices: [13, 5]}", "trials: 6,"))

    assert {one.state for one in tried if one.values == {"model.kwargs.hidden": 13}} == {"failed"}
    assert {one.state for one in tried if one.values == {"model.kwargs.hidden": 5}} == {"complete"}
    assert "unlucky" in next(one.reason for one in tried if one.state == "failed")


def test_a_search_without_a_complete_trial_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none of 2 trials.*unlucky"):
        search(bench(tmp_path, "model.kwargs.hidden: {choices: [13]}", "trials: 2,"))


def test_latency_is_measured_once_an_architecture_and_before_training_also_across_a_kill(tmp_path: Path) -> None:
    measured: list[int] = []

    def speed_of(kwargs: Mapping[str, Any]) -> Speed:
        measured.append(kwargs["hidden"])
        if len(measured) == 3:
            raise Killed
        return Speed(kwargs["hidden"] / 1000, float(kwargs["hidden"]), "onnxruntime-cpu")

    here = bench(tmp_path, "model.kwargs.hidden: {choices: [4, 8, 12]}", "trials: 12, objective: metric_and_latency,")
    with pytest.raises(Killed):
        search(here, speed_of=speed_of)
    tried = search(here, speed_of=speed_of)

    assert sorted(measured[:2] + measured[3:]) == [4, 8, 12]
    assert len(tried) == 12
    assert all(one.speed and one.speed.share == one.values["model.kwargs.hidden"] for one in tried)
    assert tried[0].objectives() == [tried[0].accuracy, float(tried[0].values["model.kwargs.hidden"])]


def test_with_latency_a_trial_below_the_median_of_faster_ones_is_stopped(tmp_path: Path) -> None:
    space = "train.lr: {choices: [0.02, 1e-7]}, model.kwargs.hidden: {choices: [8]}"
    more = "trials: 14, pruner_warmup_epochs: 1, objective: metric_and_latency,"

    tried = search(
        bench(tmp_path, space, more, train="epochs: 5, lr: 0.02"), speed_of=lambda kwargs: Speed(0.001, 0.5, "x")
    )

    stopped = [one for one in tried if one.state == "stopped"]
    assert stopped
    assert all(one.values["train.lr"] != 0.02 and "no slower" in one.reason for one in stopped)
