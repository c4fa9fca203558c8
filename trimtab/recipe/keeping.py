"""The recipe's `model.answer` and `model.also`: which of a module's outputs decides, and which are kept beside it."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trimtab.outputs import OURS
from trimtab.targets import TARGETS

if TYPE_CHECKING:
    from trimtab.recipe.schema import Recipe

Path = Annotated[str, Field(min_length=1, max_length=200)]
OutputName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
TAKEN = (*OURS, "predicted", "label")  # what answers and columns of ours are called


def refuse_names(answer: str | None, also: Mapping[str, str]) -> None:
    """See that names and paths of further outputs do not clash.

    Raises:
        ValueError: the first that does, and what to do.
    """
    if also and answer is None:
        raise ValueError("model.also keeps outputs beside the one that decides: say which that is in model.answer")
    seen: dict[str, str] = {}
    for name, path in also.items():
        if name in TAKEN or keyword.iskeyword(name):
            raise ValueError(f"model.also.{name}: the name is taken ({', '.join(TAKEN)} are ours): give it another")
        if (other := seen.setdefault(path, name)) != name:
            raise ValueError(f"model.also.{name}: {path} is already kept as {other}")


def refuse_unkept(recipe: Recipe) -> None:
    """Refuse what cannot be done with a module of several outputs.

    Raises:
        ValueError: the first such key, and what to do.
    """
    for wrong in _misfits(recipe):
        raise ValueError(wrong)


def _misfits(recipe: Recipe) -> Iterator[str]:
    model, compress = recipe.model, recipe.compress
    if model.answer is not None and compress.qat is not None:
        yield "compress.qat is of models that return one tensor so far: leave it out, or return one tensor from forward"
    if not model.also:
        if recipe.budget.max_output_difference is not None:
            yield "budget.max_output_difference has nothing to hold: model.also names no outputs"
        return
    if compress.student is not None:
        yield (
            "compress.student: a student is taught the answer that decides, and nobody would teach it "
            f"{', '.join(model.also)}: leave it out, or model.also"
        )
    if recipe.task == "regression" and model.answer in model.also.values():
        name = next(name for name, path in model.also.items() if path == model.answer)
        yield f"model.also.{name}: {model.answer} is the prediction itself, which is answered anyhow: leave it out"
    alone = [target for target in recipe.targets if not TARGETS[target].further_outputs]
    if alone:
        yield (
            f"model.also: {', '.join(model.also)} cannot be held by {', '.join(alone)} ({TARGETS[alone[0]].why_one}): "
            "take it out of `targets`"
        )
