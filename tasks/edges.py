"""Edges of the run graph in the Prefect UI: stated by us, not guessed.

Prefect finds what a task run depends on by the `id()` of its arguments. Our stages pass values on as fresh JSON, so it
would find nothing, or, where the id of a dead object was given out again, a run that has nothing to do with it.
Arguments are therefore quoted, and a stage names the runs it waits for.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from prefect.states import State
from prefect.utilities.annotations import quote

# What was opened for a flow run (its bench, its watch) → step → how the step ended. Gone when the flow run is.
_ended: WeakKeyDictionary[Any, dict[str, State[Any]]] = WeakKeyDictionary()


def quoted(*arguments: Any) -> list[Any]:
    """The arguments so that Prefect does not look into them; the task and its cache key get the plain values."""
    return [quote(argument) for argument in arguments]


def ended(owner: Any, step: str, state: State[Any]) -> Any:
    """Remember how a step ended.

    Args:
        owner: the bench or watch of this flow run. step: what later steps call it by.

    Returns:
        The result.

    Raises:
        What the task raised.
    """
    result = state.result()
    # Without its data: Prefect would look into it, and a word like "torch" in it counts as the result of whichever
    # task gave that word back last. True is a value that it does not track.
    _ended.setdefault(owner, {})[step] = state.model_copy(update={"data": True})
    return result


def after(owner: Any, *steps: str) -> list[State[Any]]:
    """For `wait_for=`: how these steps ended, those that ran."""
    known = _ended.get(owner, {})
    return [known[step] for step in steps if step in known]
