"""Edges of the run graph, and the cache key that must not change with them."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import pytest
from prefect.states import Completed, Failed, State
from prefect.utilities.collections import visit_collection
from prefect.utilities.engine import collect_task_run_inputs_sync, resolve_to_final_result

from tasks.candidates import make_candidate
from tasks.convert import convert_one
from tasks.edges import after, ended, quoted
from tasks.monitor import judge_window
from tasks.optimize import train_original
from tasks.promote import promote_version
from tasks.register import register_version
from tasks.select import measure_all
from tasks.verify import measure_finalists


class Owner:
    """Stands for a bench: known by identity."""


def test_prefect_does_not_look_into_quoted_arguments() -> None:
    state: State[Any] = Completed(data={"id": "a"})
    state.state_details.task_run_id = "00000000-0000-0000-0000-000000000001"

    assert collect_task_run_inputs_sync([state]) != set()
    assert collect_task_run_inputs_sync(quoted(state)) == set()


def test_the_task_and_its_cache_key_get_the_plain_value() -> None:
    (argument,) = quoted({"id": "a"})
    plain = visit_collection(
        argument, visit_fn=resolve_to_final_result, return_data=True, remove_annotations=True, context={}
    )

    assert type(plain) is dict
    assert plain == {"id": "a"}


def test_a_stage_waits_for_the_steps_it_names_and_only_for_those_that_ran() -> None:
    owner, other = Owner(), Owner()
    first: State[Any] = Completed(data={"format": "torch"})

    assert ended(owner, "first", first) == {"format": "torch"}
    (known,) = after(owner, "first", "second")
    assert (known.id, known.data) == (first.id, True)  # its data would lead Prefect to other runs
    assert after(other, "first") == []


def test_what_a_task_raised_is_raised_and_nothing_waits_for_it() -> None:
    owner = Owner()

    with pytest.raises(ValueError, match="no"):
        ended(owner, "first", Failed(data=ValueError("no")))
    assert after(owner, "first") == []


def test_states_are_forgotten_with_their_owner() -> None:
    owner = Owner()
    value = Owner()
    ended(owner, "first", Completed(data=value))
    gone = ref(value)
    del owner, value
    gc.collect()

    assert gone() is None


def test_task_runs_have_names_one_can_read() -> None:
    tasks = {
        train_original: "train the original",
        make_candidate: "compress {label}",
        convert_one: "convert {label} to all targets",
        measure_all: "measure every build on validation",
        measure_finalists: "verify the finalists on the gate",
        register_version: "register",
        promote_version: "promote version {version}",
        judge_window: "judge the window",
    }

    assert [task.task_run_name for task in tasks] == list(tasks.values())
