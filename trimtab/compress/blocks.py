"""Residual blocks of a model: submodules that an identity can take the place of.

A block is one tensor in, one of the same shape and dtype out, with two layers or more that hold parameters, one of
them a convolution or linear layer, called once, and with a path around its layers: from its input to its output the
autograd graph leads over a sum, past every convolution and matrix product (He et al. 2016, "Deep Residual Learning",
arXiv:1512.03385; the layers of transformers have the same form). Worked example: in x + mlp(norm(x)) the whole is a
block, `mlp` alone keeps the shape but has no such path; with `mlp` gone the sum would be of x and norm(x).

Only the smallest blocks count: a stage that holds blocks is none itself.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trimtab.errors import ModelError, UnsupportedError
from trimtab.optimize.predicting import Forward

CONNECTED = (nn.modules.conv._ConvNd, nn.Linear)
# Names of autograd nodes, in lower case, that mix channels with weights, or weight one tensor by another: a path over
# one of them does not hand the input on. The product keeps gates such as squeeze-and-excitation from being blocks.
_MIXES = ("convolution", "mm", "mv", "dot", "rnn", "lstm", "gru", "mulbackward")


@dataclass(frozen=True)
class _Call:
    """One call of a submodule: whether the shape stays, and the autograd nodes of its input and output."""

    keeps_shape: bool
    start: Any = None
    end: Any = None


def residual_blocks(model: nn.Module, rows: dict[str, Tensor], forward: Forward) -> list[str]:
    """Names of the residual blocks, in the order of `named_modules`; the model is left as it was.

    Args:
        rows: name → tensor (n, ...), as the model takes them; two rows are enough.
        forward: (module, name → tensor) → logits.

    Raises:
        UnsupportedError: there are none, with the reason.
        ModelError: the model cannot be run on the rows with gradients.
    """
    probe = copy.deepcopy(model).eval()
    calls = _traced(probe, rows, forward)
    candidates = [name for name, module in probe.named_modules() if _is_block(module) and name in calls]
    once = [name for name in candidates if len(calls[name]) == 1 and calls[name][0].keeps_shape]
    found = [name for name in once if _goes_around(calls[name][0])]
    if not found:
        raise _no_blocks(model, once)
    return [name for name in found if not any(other.startswith(f"{name}.") for other in found)]


def _is_block(module: nn.Module) -> bool:
    holders = [m for m in module.modules() if any(True for _ in m.parameters(recurse=False))]
    return len(holders) >= 2 and any(isinstance(layer, CONNECTED) for layer in holders)


def _traced(model: nn.Module, rows: dict[str, Tensor], forward: Forward) -> dict[str, list[_Call]]:
    """Every call of every submodule that has one name, other than the root, in one forward pass."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    names = dict(_names(model))
    starts: dict[nn.Module, list[Tensor | None]] = defaultdict(list)
    calls: dict[str, list[_Call]] = defaultdict(list)

    def before(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        given = _only_tensor(args, named)
        # The clone's autograd node marks where this module begins; it also keeps the input from changes in place.
        marked = None if given is None else _with_gradient(given).clone()
        starts[module].append(marked)
        if marked is None:
            return None
        swap = tuple(marked if value is given else value for value in args)
        return swap, {key: marked if value is given else value for key, value in named.items()}

    def after(module: nn.Module, _: Any, answer: Any) -> None:
        given = starts[module].pop()
        if (
            given is None
            or not isinstance(answer, Tensor)
            or (answer.shape, answer.dtype) != (given.shape, given.dtype)
        ):
            calls[names[module]].append(_Call(False))
        else:
            calls[names[module]].append(_Call(True, given.grad_fn, answer.grad_fn))

    for module in names:
        module.register_forward_pre_hook(before, with_kwargs=True)
        module.register_forward_hook(after)
    try:
        with torch.enable_grad():
            forward(model, rows)
    except Exception as error:
        raise ModelError(
            f"the model cannot be traced for its blocks: {type(error).__name__}: {error}",
            where=type(model).__name__,
            fix="set compress.shorten to null, or see that forward runs on two rows in evaluation mode",
        ) from error
    return calls


def _names(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Submodules that are registered under one name only; taking another away would leave its weights behind."""
    every = list(model.named_modules(remove_duplicate=False))
    count = Counter(id(module) for _, module in every)
    return ((module, name) for name, module in every if name and count[id(module)] == 1)


def _only_tensor(args: tuple[Any, ...], named: dict[str, Any]) -> Tensor | None:
    """The one tensor a module is called with, if it comes first and is of floats."""
    tensors = [value for value in (*args, *named.values()) if isinstance(value, Tensor)]
    first = next(iter((*args, *named.values())), None)
    return first if len(tensors) == 1 and first is tensors[0] and first.is_floating_point() else None


def _with_gradient(value: Tensor) -> Tensor:
    return value if value.requires_grad else value.detach().requires_grad_(True)


def _goes_around(call: _Call) -> bool:
    """Whether a path leads from output back to input over a sum and past all that mixes channels."""
    todo: list[tuple[Any, bool]] = [(call.end, False)]
    seen: set[tuple[Any, bool]] = set()
    while todo:
        node, summed = todo.pop()
        if node is None or (node, summed) in seen:
            continue
        seen.add((node, summed))
        if node is call.start:
            if summed:
                return True
            continue
        name = type(node).__name__.lower()
        if not any(part in name for part in _MIXES):
            summed = summed or name.startswith("addbackward")
            todo += [(before, summed) for before, _ in node.next_functions]
    return False


def _no_blocks(model: nn.Module, same_shape: list[str]) -> UnsupportedError:
    reason = "no block keeps its input's shape"
    if same_shape:
        reason = f"no block that keeps its input's shape has a path around its layers ({', '.join(same_shape[:5])})"
    return UnsupportedError(
        f"no block can be dropped: {reason}",
        where=type(model).__name__,
        fix="set compress.shorten to null for this model; it is for networks with residual blocks",
    )
