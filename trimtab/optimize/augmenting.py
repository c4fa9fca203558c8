"""The user's augmentation: it changes training batches and keeps their names, shapes and dtypes.

It is given raw inputs, before pre-processing, and a generator of its own that follows the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from trimtab.data import Array
from trimtab.errors import ModelError
from trimtab.optimize.seeding import seeded
from trimtab.workbench import Workbench

Augment = Callable[[dict[str, Tensor], torch.Generator], dict[str, Tensor]]
KEY = "model.augment"
STREAM = 1  # apart from the seed itself, which orders the rows: flips must not follow the order


def generator_for(seed: int) -> torch.Generator:
    """The generator of a training's augmentation, independent of the one that orders its rows."""
    # torch cuts seeds to 32 bits, so an offset would not do.
    drawn = np.random.SeedSequence([seed, STREAM]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(drawn))


def augment_of(bench: Workbench) -> Augment | None:
    """The recipe's augmentation, its answers checked at every call; None where the recipe names none.

    Raises:
        UserCodeError, RecipeError: it cannot be imported.
    """
    entry = bench.recipe.model.augment
    return None if entry is None else keeping_form(bench.code.function(entry, KEY), entry)


def check_augment(bench: Workbench) -> None:
    """Try the recipe's augmentation on a few training rows, before anything is trained.

    Raises:
        UserCodeError: it cannot be imported, or raised.
        ModelError: it changes names, shapes or dtypes, gives NaN or infinity, or does not follow the seed.
    """
    augment = augment_of(bench)
    if augment is not None:
        probe(augment, bench.example, str(bench.recipe.model.augment), bench.recipe.train.seed)


def keeping_form(augment: Augment, entry: str) -> Augment:
    """The augmentation without gradients, each answer refused unless it has the names, shapes and dtypes it was given.

    Args:
        entry: its name in error messages.
    """

    def checked(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        forms = _forms(inputs)
        with torch.no_grad():
            answer = augment(dict(inputs), generator)
        if not isinstance(answer, Mapping) or not all(isinstance(value, Tensor) for value in answer.values()):
            raise _refusal(entry, f"returned {type(answer).__name__}, not a dict of tensors")
        for name in forms.keys() | answer.keys():
            now = _forms(answer).get(name, "missing")
            if now != forms.get(name):
                raise _refusal(entry, f"{name} is {now}, was {forms.get(name, 'missing')}")
        return {name: answer[name] for name in inputs}

    return checked


def probe(augment: Augment, rows: Mapping[str, Array], entry: str, seed: int) -> None:
    """Call the augmentation twice on the same rows with the same seed; `rows` are left as they are.

    Raises:
        ModelError: the answer holds NaN or infinity, or differs between the calls. And what `augment` raises.
    """
    answers = []
    for _ in range(2):
        with seeded(seed):
            inputs = {name: torch.from_numpy(values.copy()) for name, values in rows.items()}
            answers.append(augment(inputs, generator_for(seed)))
    first, again = answers
    for name, value in first.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise _refusal(entry, f"{name} holds NaN or infinity")
        if not torch.equal(value, again[name]):
            raise ModelError(
                f"{entry} gave two answers for the same rows and the same seed ({name})",
                where=KEY,
                fix="draw from the generator it is given, or from torch's global one",
            )


def _forms(inputs: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}" for name, value in inputs.items()}


def _refusal(entry: str, what: str) -> ModelError:
    return ModelError(
        f"{entry}: {what}",
        where=KEY,
        fix="return finite tensors with the names, shapes and dtypes that were given",
    )
