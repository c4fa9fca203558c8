"""Weights on disk as plain tensors: a user's file is read without unpickling code, ours is written as safetensors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trimtab.errors import ModelError


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Load a state dict into the model, every key and every shape, and return the model.

    Args:
        path: `.safetensors`, or what `torch.save` wrote (read with weights_only), bare or under "state_dict".

    Raises:
        ModelError: the file cannot be read as tensors, or its keys and shapes are not the model's; all are named.
    """
    path = Path(path)
    given = _read(path)
    own = model.state_dict()
    unexpected = sorted(set(given) - set(own))
    missing = sorted(_not_tied(own, set(own) - set(given), given))
    shapes = sorted(
        f"{name} is {tuple(given[name].shape)}, the model has {tuple(own[name].shape)}"
        for name in set(given) & set(own)
        if given[name].shape != own[name].shape
    )
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        raise ModelError(
            "the weights do not fit the model: "
            + "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in parts if names),
            where=str(path),
            fix="give the weights of this very model, with the same kwargs",
        )
    model.load_state_dict(given, strict=False)
    return model


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the state dict as safetensors; the bytes depend on the values alone.

    Raises:
        ModelError: the state dict holds something that is not a tensor.
    """
    state = model.state_dict()
    others = sorted(name for name, value in state.items() if not isinstance(value, Tensor))
    if others:
        raise ModelError(
            f"the state dict holds values that are no tensors: {_some(others)}",
            where=type(model).__name__,
            fix="register them as buffers, or leave them out of the state dict",
        )
    save_file({name: state[name].detach().cpu().contiguous() for name in _first_of_tied(state)}, path)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError("there is no such file", where=str(path), fix="correct model.weights in the recipe")
    try:
        value: Any
        if path.suffix == ".safetensors":
            value = load_file(path)
        else:
            value = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelError(
            f"is not a file of plain tensors: {str(error).splitlines()[0]}",
            where=str(path),
            fix="save model.state_dict() with safetensors.torch.save_file or torch.save; pickled objects are refused",
        ) from None
    if isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping):
        value = value["state_dict"]
    if not isinstance(value, Mapping) or not all(isinstance(item, Tensor) for item in value.values()):
        raise ModelError("holds no state dict", where=str(path), fix="save model.state_dict()")
    return dict(value)


def _place(value: Tensor) -> tuple[Any, ...]:
    return value.data_ptr(), value.storage_offset(), tuple(value.shape), value.stride()


def tied_names(model: nn.Module) -> dict[str, str]:
    """Names of the state dict whose tensor `save_weights` writes under another name → that name."""
    first = _first_names(model.state_dict())
    return {name: other for name, other in first.items() if name != other}


def _first_of_tied(state: Mapping[str, Tensor]) -> list[str]:
    return sorted(set(_first_names(state).values()))


def _first_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    # Tied weights are one tensor under several names; safetensors refuses to write it twice.
    places: dict[tuple[Any, ...], str] = {}
    return {
        name: places.setdefault(_place(state[name]) if state[name].numel() else (name,), name) for name in sorted(state)
    }


def _not_tied(own: Mapping[str, Tensor], missing: set[str], given: Mapping[str, Tensor]) -> set[str]:
    present = {_place(own[name]) for name in own if name in given}
    return {name for name in missing if _place(own[name]) not in present}


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
