"""When a release searches for its original, and when it takes what an earlier search found."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import search_original as searching
from tasks.search_original import search_original
from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.optimize.tried import Tried
from trimtab.recipe.load import parse_recipe

HEAD = "name: demo\nmodel: n:b\ndata: n:s\n"
SEARCH = "train: {search: {space: {train.lr: {low: 0.001, high: 0.1}, model.kwargs.hidden: {choices: [4, 8]}}}}\n"
TRIED = [
    Tried(0, {"train.lr": 0.003, "model.kwargs.hidden": 4}, "complete", 0.8, 0.5, (0.8,), candidate="a"),
    Tried(1, {"train.lr": 0.01, "model.kwargs.hidden": 8}, "complete", 0.9, 0.4, (0.9,), candidate="b"),
]


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was searched and recorded; nothing is trained."""
    done: list[Any] = []
    monkeypatch.setattr(searching, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(searching, "check_arguments", lambda bench: None)
    monkeypatch.setattr(searching, "_trials", lambda bench, warm_start: [one.to_json() for one in TRIED])
    monkeypatch.setattr(searching, "_record", lambda bench, tried, chosen: done.append(chosen))
    return done


def bench(text: str, stored: Candidate | None = None) -> Any:
    return SimpleNamespace(
        recipe=parse_recipe(HEAD + text), stored=lambda candidate: stored, splits={"validation": range(100)}
    )


def original(**parameters: Any) -> Candidate:
    return Candidate((Step("train", parameters, 0),), InputsDigest("d", "w", "c", "v"))


def test_a_recipe_without_a_search_searches_nothing(searched: list[Any]) -> None:
    assert search_original(bench(""), None, None) is None
    assert searched == []


def test_the_chosen_values_are_what_the_original_gets_and_the_trials_are_recorded(searched: list[Any]) -> None:
    assert search_original(bench(SEARCH), None, None) == TRIED[1].values
    assert searched == [TRIED[1]]


@pytest.mark.parametrize("warm", [True, False])
def test_a_retrain_takes_the_values_of_the_champions_original_also_where_it_starts_from_scratch(
    searched: list[Any], warm: bool
) -> None:
    before = original(lr=0.05, model_kwargs={"hidden": 4})

    taken = search_original(bench(SEARCH, before), before.id, before.id if warm else None)

    assert taken == {"train.lr": 0.05, "model.kwargs.hidden": 4}
    assert searched == []


@pytest.mark.parametrize("before", [None, original(lr=0.05)], ids=["gone from the store", "not searched"])
def test_a_retrain_searches_where_the_earlier_original_does_not_say(
    searched: list[Any], before: Candidate | None
) -> None:
    assert search_original(bench(SEARCH, before), "0" * 16, None) == TRIED[1].values


def test_the_table_goes_into_the_run_of_this_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logged: dict[str, Any] = {}

    class Recorder:
        def __init__(self, uri: str, locks: Path) -> None: ...

        def experiment(self, name: str) -> str:
            return f"experiment of {name}"

        def release_run(self, experiment: str, key: str) -> str:
            return f"run of {key} in {experiment}"

        def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
            logged[artifact_file] = (run_id, text)

        def set_tags(self, run_id: str, tags: dict[str, str]) -> None:
            logged.update(tags)

    monkeypatch.setattr(searching, "Tracking", Recorder)
    monkeypatch.setattr(searching, "release_key", lambda bench: "k")
    settings = SimpleNamespace(tracking_uri=lambda: "http://mlflow", locks=tmp_path)

    searching._record(SimpleNamespace(settings=settings, recipe=SimpleNamespace(name="demo")), TRIED, TRIED[1])  # type: ignore[arg-type]

    run_id, text = logged["search/trials.csv"]
    assert run_id == "run of k in experiment of demo"
    assert len(text.splitlines()) == 3
    assert logged["trimtab.searched"] == '{"train.lr": 0.01, "model.kwargs.hidden": 8}'
