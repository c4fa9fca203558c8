"""The recipe's `inputs` section: axes of the model's inputs that may change from request to request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from trimtab.free_axes import Axes, FreeAxis
from trimtab.recipe.section import Section
from trimtab.targets import TARGETS

OURS = "batch"


class Axis(Section):
    """An axis that may have any size from min to max."""

    axis: int = Field(ge=1, le=7, description="its place, the batch being 0")
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)] = Field(
        description="axes of one name have one size in a request"
    )
    min: int = Field(1, ge=1)
    max: int = Field(ge=2, le=2**20)

    @model_validator(mode="after")
    def _is_a_range(self) -> Axis:
        if self.name == OURS:
            raise ValueError(f"name: {OURS!r} is the axis of the rows, which is always free")
        if self.min >= self.max:
            raise ValueError(f"min: {self.min} is not below max: {self.max}; an axis of one size need not be named")
        return self


class Input(Section):
    """An input of the model; what is not said of it is taken from the data."""

    axes: list[Axis] = Field(default_factory=list, description="those that may change, besides the batch")


def axes_in(inputs: Mapping[str, Input]) -> Axes:
    """The free axes as a value, by input and place."""
    found = {
        name: {one.axis: FreeAxis(one.name, one.min, one.max) for one in sorted(held.axes, key=lambda one: one.axis)}
        for name, held in inputs.items()
    }
    return {name: places for name, places in found.items() if places}


def refuse_contradictions(inputs: Mapping[str, Input], targets: Sequence[str]) -> None:
    """See that the axes agree among each other, and that every target can hold them.

    Raises:
        ValueError: they do not, or it cannot.
    """
    seen: dict[str, tuple[int, int]] = {}
    for name, held in inputs.items():
        places = [one.axis for one in held.axes]
        if len(set(places)) < len(places):
            raise ValueError(f"inputs.{name}.axes: one axis is named twice")
        for one in held.axes:
            bounds = (one.min, one.max)
            if seen.setdefault(one.name, bounds) != bounds:
                raise ValueError(
                    f"inputs.{name}.axes: {one.name} is {one.min} to {one.max} here and "
                    f"{seen[one.name][0]} to {seen[one.name][1]} elsewhere: axes of one name have one size"
                )
    fixed = [target for target in targets if not TARGETS[target].free_axes]
    if seen and fixed:
        raise ValueError(
            f"inputs: {', '.join(seen)} is free, which {', '.join(fixed)} cannot hold "
            f"({TARGETS[fixed[0]].why_fixed}): take it out of `targets`"
        )
