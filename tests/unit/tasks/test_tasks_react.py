"""Reactions that meet each other, and what a retrain takes over from the champion."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect import tags
from prefect.client.schemas.objects import StateType
from prefect.context import TagsContext
from prefect.logging import disable_run_logger

from tasks import bench, leftovers
from tasks.naming import untagged
from tasks.react import reacting
from trimtab.errors import Conflict


class Watch:
    """Stands for a watch whose lock somebody else may hold."""

    def __init__(self, taken: bool) -> None:
        self.taken = taken

    @contextmanager
    def reacting(self) -> Any:
        if self.taken:
            raise Conflict("a reaction for digits is already running")
        yield


def test_a_second_reaction_is_told_that_it_is_not_alone_and_does_not_fail() -> None:
    with disable_run_logger(), reacting(Watch(taken=True)) as alone:  # type: ignore[arg-type]
        assert not alone
    with reacting(Watch(taken=False)) as alone:  # type: ignore[arg-type]
        assert alone


def test_a_conflict_inside_the_reaction_is_still_raised() -> None:
    with pytest.raises(Conflict, match="release"), reacting(Watch(taken=False)):  # type: ignore[arg-type]
        raise Conflict("a release of digits is already running")


def test_only_runs_of_this_recipe_that_have_not_begun_are_about_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read_flow_runs(self, *, flow_filter: Any, flow_run_filter: Any, limit: int) -> list[Any]:
            asked.append((flow_filter.name.any_, set(flow_run_filter.state.type.any_)))
            return [SimpleNamespace(id=uuid4(), parameters={"recipe": path}) for path in ("a.yaml", "b.yaml")]

    monkeypatch.setattr(leftovers, "get_client", lambda sync_client: Client())

    assert leftovers.about_to_begin("react", "a.yaml") == 1
    assert asked == [(["react"], {StateType.SCHEDULED, StateType.PENDING})]


def test_tasks_do_not_take_on_the_tags_of_their_flow() -> None:
    with tags("trimtab", "digits"):
        with untagged():
            assert TagsContext.get().current_tags == set()
        assert TagsContext.get().current_tags == {"trimtab", "digits"}


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (["openvino-cpu"], ["openvino-cpu"]),
        (["torchscript-cpu"], ["onnxruntime-cpu", "openvino-cpu"]),  # the recipe has dropped it
        (None, ["onnxruntime-cpu", "openvino-cpu"]),  # a champion that was registered before targets were written down
    ],
)
def test_a_retrain_goes_to_the_targets_that_reached_the_gate(
    monkeypatch: pytest.MonkeyPatch, kept: list[str] | None, expected: list[str]
) -> None:
    steps = [[{"method": "prune", "parameters": {"ratio": 0.5}, "seed": 0}]]
    facts = {"original": "abc", "finalists": steps, **({} if kept is None else {"finalist_targets": kept})}
    monkeypatch.setattr(bench, "_champion_facts", lambda bench, champion: facts)
    recipe = SimpleNamespace(targets=["onnxruntime-cpu", "openvino-cpu"])
    work: Any = SimpleNamespace(new_rows=object(), recompress=None, recipe=recipe)

    taken = bench._from_champion(work, 1)

    assert taken["targets"] == expected
    assert taken["before"] == "abc"
    assert [step.method for step in taken["finalists"][0]] == ["prune"]


def test_a_first_release_goes_to_every_target_of_the_recipe() -> None:
    work: Any = SimpleNamespace(new_rows=None, recompress=None, recipe=SimpleNamespace(targets=["onnxruntime-cpu"]))

    assert bench._from_champion(work, None) == {"targets": ["onnxruntime-cpu"]}


def test_a_recompression_takes_the_champions_original_as_it_is_and_every_target_of_the_recipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = {"original": "abc", "finalists": [], "finalist_targets": ["onnxruntime-cpu"]}
    monkeypatch.setattr(bench, "_champion_facts", lambda bench, champion: facts)
    recipe = SimpleNamespace(targets=["onnxruntime-cpu", "openvino-cpu"])
    work: Any = SimpleNamespace(new_rows=object(), recompress=object(), recipe=recipe)

    assert bench._from_champion(work, 1) == {"targets": recipe.targets, "kept": "abc"}
