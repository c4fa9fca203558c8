"""The space of a search as Optuna has it, and what a point of it means for the settings and the model's arguments.

A choice may be anything JSON has, e.g. the widths [32, 64] of a network; Optuna's categories are plain values. So a
choice is a category under its JSON text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trimtab.candidate import Candidate, Json
from trimtab.errors import RecipeError, UserCodeError
from trimtab.recipe.schema import Recipe, Search, Train, Values
from trimtab.recipe.searching import KWARGS, TRAIN
from trimtab.workbench import Workbench

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def applied(train: Train, values: Mapping[str, Json]) -> tuple[Train, dict[str, Json]]:
    """Settings without a search, and arguments of the model's callable, with these values: key of a space → value.

    Raises:
        RecipeError: the values do not fit each other.
    """
    settings = {key.removeprefix(TRAIN): value for key, value in values.items() if key.startswith(TRAIN)}
    kwargs = {key.removeprefix(KWARGS): value for key, value in values.items() if key.startswith(KWARGS)}
    try:
        return train.with_values(settings), kwargs
    except ValueError as error:
        raise RecipeError(f"{settings} do not fit each other: {error}", where="train.search.space") from None


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """Key of the space → what Optuna draws from."""
    return {key: _distribution(key, values) for key, values in search.space.items()}


def decoded(params: Mapping[str, Any], search: Search) -> dict[str, Json]:
    """What Optuna drew as values of the recipe: choices are JSON texts."""
    return {key: json.loads(value) if search.space[key].choices else value for key, value in params.items()}


def own_values(recipe: Recipe, search: Search) -> dict[str, Any]:
    """The recipe's own values that lie in the space, as Optuna writes them: with these the first trial is made."""
    found: dict[str, Any] = {}
    for key, values in search.space.items():
        name = key.removeprefix(TRAIN)
        if key.startswith(KWARGS) and (name := key.removeprefix(KWARGS)) not in recipe.model.kwargs:
            continue
        own = recipe.model.kwargs[name] if key.startswith(KWARGS) else getattr(recipe.train, name)
        if values.choices is None:
            if _in_range(own, values):
                found[key] = own
            continue
        for choice in values.choices:
            same = choice if key.startswith(KWARGS) else Train.taken(name, choice)
            if same == own and isinstance(same, bool) == isinstance(own, bool):
                found[key] = _text(choice)
    return found


def values_of(original: Candidate, search: Search) -> dict[str, Json] | None:
    """What an original was made with, for each key of the space; None where it does not say so of every key."""
    parameters = original.lineage[0].parameters
    found: dict[str, Json] = {}
    for key in search.space:
        held = original.model_kwargs if key.startswith(KWARGS) else parameters
        name = key.removeprefix(KWARGS if key.startswith(KWARGS) else TRAIN)
        if name not in held:
            return None
        found[key] = held[name]
    return found


def check_arguments(bench: Workbench) -> None:
    """See that the callable takes each model argument of the space: with one value of it at least, a model is built.

    Raises:
        ModelError, UserCodeError: it does not; what it said of the first value.
    """
    search = bench.recipe.train.search
    for key, values in search.space.items() if search else ():
        if not key.startswith(KWARGS):
            continue
        errors = []
        for value in values.parts().values():
            try:
                bench.build(**{key.removeprefix(KWARGS): value})
            except UserCodeError as error:
                errors.append(error)
        if len(errors) == len(values.parts()):
            raise errors[0]


def _distribution(key: str, values: Values) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values.choices is not None:
        return CategoricalDistribution([_text(choice) for choice in values.choices])
    assert values.low is not None
    assert values.high is not None
    high = values.high
    if values.step is not None:  # the last step, which Optuna would lower it to with a warning
        high = values.low + math.floor((values.high - values.low) / values.step + 1e-9) * values.step
    if _whole(key, values):
        return IntDistribution(int(values.low), int(high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(values.low, high, log=values.log, step=values.step)


def _whole(key: str, values: Values) -> bool:
    """A setting is whole if `train` makes a whole number of it, a model's argument if it is written so."""
    if key.startswith(TRAIN):
        name = key.removeprefix(TRAIN)
        return isinstance(Train.taken(name, values.low), int)
    return all(isinstance(value, int) for value in (values.low, values.high, values.step or 1))


def _in_range(own: Any, values: Values) -> bool:
    assert values.low is not None
    assert values.high is not None
    if isinstance(own, bool) or not isinstance(own, int | float) or not values.low <= own <= values.high:
        return False
    steps = (own - values.low) / values.step if values.step else 0.0
    return abs(steps - round(steps)) < 1e-9


def _text(choice: Json) -> str:
    return json.dumps(choice, sort_keys=True)
