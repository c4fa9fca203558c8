"""Optimizers by name, and the recipe's options checked against the class of torch.optim they are for."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from trimtab.errors import RecipeError
from trimtab.recipe.schema import Train
from trimtab.recipe.training import SGD_MOMENTUM

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "gd": torch.optim.SGD,
}
# `differentiable` steps inside a graph that Lightning does not build, `capturable` steps on a GPU only: both would
# fail in the first epoch.
UNUSABLE = {"params", "differentiable", "capturable"}
OWN_KEYS = {"lr", "weight_decay"}
OWN_KEYS_OF_SGD = {"momentum", "nesterov"}


def optimizer_for(settings: Train, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer the recipe names, over `parameters`.

    `gd` is SGD without momentum; that its batch is all rows is seen to where batches are made.

    Raises:
        RecipeError: an option is unknown, has a key of its own in `train`, or has a value that torch refuses.
    """
    check_options(settings)
    momentum: dict[str, Any] = {}
    if settings.optimizer == "sgd":
        given = SGD_MOMENTUM if settings.momentum is None else settings.momentum
        momentum = {"momentum": given, "nesterov": settings.nesterov}
    kind: Any = OPTIMIZERS[settings.optimizer]
    try:
        optimizer: torch.optim.Optimizer = kind(
            parameters, lr=settings.lr, weight_decay=settings.weight_decay, **momentum, **settings.optimizer_options
        )
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise RecipeError(
            f"{kind.__name__} refuses {settings.optimizer_options or 'its arguments'}: {error}",
            where="train.optimizer_options",
            fix=f"see the documentation of torch.optim.{kind.__name__}",
        ) from None
    return optimizer


def allowed_options(optimizer: str) -> list[str]:
    """Names that `train.optimizer_options` may hold for an optimizer: arguments of its class without a key of ours."""
    own = OWN_KEYS | (OWN_KEYS_OF_SGD if optimizer in ("sgd", "gd") else set())
    return [name for name in inspect.signature(OPTIMIZERS[optimizer]).parameters if name not in own | UNUSABLE]


def check_options(settings: Train) -> None:
    """Refuse options the optimizer does not have, before anything is trained.

    Here and not in the recipe's schema, because the signature is torch's and recipes are read without torch.

    Raises:
        RecipeError: naming the first key that is not allowed and those that are.
    """
    allowed = allowed_options(settings.optimizer)
    for key in settings.optimizer_options:
        if key in allowed:
            continue
        kind = f"torch.optim.{OPTIMIZERS[settings.optimizer].__name__}"
        if key in OWN_KEYS or (key in OWN_KEYS_OF_SGD and settings.optimizer == "sgd"):
            what, fix = f"{key} has a key of its own", f"set train.{key}"
        else:
            what = f"{key} is not an option of optimizer: {settings.optimizer} ({kind})"
            close = difflib.get_close_matches(key, allowed, n=1)
            fix = (
                f"did you mean {close[0]}? allowed: {', '.join(allowed)}" if close else f"allowed: {', '.join(allowed)}"
            )
        raise RecipeError(what, where="train.optimizer_options", fix=fix)
