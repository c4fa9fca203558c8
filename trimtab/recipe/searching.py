"""The recipe's `train.search` section: which settings and which architecture the original gets is searched for."""

from __future__ import annotations

import difflib
import itertools
import json
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from trimtab.recipe.section import Section

if TYPE_CHECKING:
    from trimtab.recipe.training import Train

TRAIN, KWARGS = "train.", "model.kwargs."
Number = int | float
NOT_SEARCHED = {
    "always": "it says whether there is a training at all",
    "seed": "the luckiest seed is no better model",
    "threads": "it decides about time, not about the model",
    "search": "it is the search",
}
MOST_COMBINATIONS = 4096  # of ends and choices that are tried when the recipe is read; beyond it a sample of them


class Values(Section):
    """What a search may set a key to: a range (both ends may occur), or choices."""

    low: Annotated[Number, Field(allow_inf_nan=False)] | None = None
    high: Annotated[Number, Field(allow_inf_nan=False)] | None = None
    log: bool = Field(False, description="draw evenly on a logarithmic scale")
    step: Annotated[Number, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="only low, low + step, low + 2 * step, ..."
    )
    choices: list[Any] | None = Field(None, min_length=1, description="any values, lists too; instead of a range")

    @model_validator(mode="after")
    def _a_range_or_choices(self) -> Values:
        if self.choices is not None:
            if {"low", "high", "log", "step"} & self.model_fields_set:
                raise ValueError("give low and high, or choices, not both")
            texts = [_text(choice) for choice in self.choices]
            if repeated := [text for text in texts if texts.count(text) > 1]:
                raise ValueError(f"the choice {repeated[0]} is there twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0, and no step")
        return self

    def parts(self) -> dict[str, Any]:
        """Where it is written → value: both ends of a range, or every choice."""
        if self.choices is not None:
            return {f"choices.{index}": choice for index, choice in enumerate(self.choices)}
        return {"low": self.low, "high": self.high}


class Search(Section):
    """A search over training settings and architecture, on validation; what it chooses becomes the original."""

    trials: int = Field(20, ge=1)
    minutes: float | None = Field(None, gt=0, description="no trial is begun after so many minutes of trials")
    space: dict[str, Values] = Field(
        min_length=1, description="train.<key> or model.kwargs.<name>: what it may be set to"
    )
    objective: Literal["metric", "metric_and_latency"] = "metric"
    pruner_warmup_epochs: int = Field(2, ge=0, description="epochs before a hopeless trial may be stopped")

    @model_validator(mode="after")
    def _latency_depends_on_the_space(self) -> Search:
        if self.objective == "metric_and_latency" and not any(key.startswith(KWARGS) for key in self.space):
            raise ValueError(
                "objective: metric_and_latency needs a key model.kwargs.<name> in its space: "
                "training settings do not change the latency"
            )
        return self


def check_space(train: Train, search: Search) -> None:
    """Refuse keys that are not to be searched, and values that `train` does not take, alone or with one another.

    Raises:
        ValidationError: all errors at once, each with its place below `train`.
    """
    errors = [error for key, values in search.space.items() for error in _key(train, key, values)]
    if not errors:
        errors = list(itertools.islice(_combinations(train, search), 1))
    if errors:
        raise ValidationError.from_exception_data("Search", errors)


def _key(train: Train, key: str, values: Values) -> Iterator[InitErrorDetails]:
    if key.startswith(KWARGS) and key.removeprefix(KWARGS).isidentifier():
        return
    name = key.removeprefix(TRAIN)
    allowed = [field for field in type(train).model_fields if field not in NOT_SEARCHED]
    if not key.startswith(TRAIN) or name not in allowed:
        why = NOT_SEARCHED.get(name) if key.startswith(TRAIN) else None
        close = difflib.get_close_matches(name, allowed, n=1)
        hint = f"did you mean {TRAIN}{close[0]}?" if close else f"of train: {', '.join(allowed)}"
        message = f"cannot be searched: {why}" if why else f"no key of train or model.kwargs ({hint})"
        yield _error(message, values.model_dump(exclude_unset=True), key)
        return
    for part, value in values.parts().items():
        try:
            taken = train.taken(name, value)
        except ValidationError as error:
            yield _error(error.errors()[0]["msg"], value, key, part)
            continue
        if values.choices is None and type(taken) not in (int, float):
            yield _error("a range is for numbers; give choices", value, key, part)
        elif values.step is not None and type(taken) is int and values.step != int(values.step):
            yield _error("must be whole, as the values are", values.step, key, "step")
            return


def _combinations(train: Train, search: Search) -> Iterator[InitErrorDetails]:
    keys = {key.removeprefix(TRAIN): values for key, values in search.space.items() if key.startswith(TRAIN)}
    for combination in _some([list(values.parts().values()) for values in keys.values()]):
        chosen = dict(zip(keys, combination, strict=True))
        try:
            train.with_values(chosen)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            yield _error(f"{message}; a trial must be free to combine what the space allows", chosen)


def _some(lists: list[list[Any]]) -> Iterator[tuple[Any, ...]]:
    size = 1
    for values in lists:
        size *= len(values)
    if size <= MOST_COMBINATIONS:
        yield from itertools.product(*lists)
        return
    draw = random.Random(0)
    for _ in range(MOST_COMBINATIONS):
        yield tuple(draw.choice(values) for values in lists)


def _error(message: str, given: Any, *place: str) -> InitErrorDetails:
    kind = PydanticCustomError("search_space", "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=("search", "space", *place), input=given)


def _text(choice: Any) -> str:
    try:
        return json.dumps(choice, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(f"the choice {choice!r} is no JSON value") from None
