"""Feature hints: a student's inner outputs are drawn towards its original's, besides its answers.

Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", arXiv:1412.6550, with the squared error of section 2.2 as one
more term of the loss instead of a first stage. Hints are given at modules that both networks have under one name and
with outputs of one shape, so there is no regressor in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.data import Split
from trimtab.errors import UnsupportedError
from trimtab.optimize.predicting import Forward, predict
from trimtab.optimize.weighting import mean

WHERE = "compress.distil.hint_layers"
PROBE_ROWS = 2


@dataclass(frozen=True)
class Hints:
    """What both networks gave at the hinted modules in their latest forward: name → (b, ...)."""

    student: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]

    def loss(self, weights: Tensor | None = None) -> Tensor:
        """Mean over modules of the mean squared error; the teacher must have seen the student's rows.

        Args:
            weights: (b,), how much each row counts, as `weighting.scaled` gives them; None: all alike.
        """
        if weights is None:
            errors = [F.mse_loss(own, self.teacher[name]) for name, own in self.student.items()]
        else:
            pairs = [(own, self.teacher[name]) for name, own in self.student.items()]
            errors = [mean(F.mse_loss(own, theirs, reduction="none"), weights) for own, theirs in pairs]
        return torch.stack(errors).mean()


@contextlib.contextmanager
def hinting(student: nn.Module, teacher: nn.Module, layers: Sequence[str]) -> Iterator[Hints]:
    """Note the outputs of these modules of both networks at every forward inside the block."""
    with outputs_of(student, layers) as own, outputs_of(teacher, layers) as theirs:
        yield Hints(own, theirs)


@contextlib.contextmanager
def outputs_of(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Module name → its output at the latest forward; the last one of a module that runs twice."""
    noted: dict[str, Tensor] = {}

    def note(name: str, _module: nn.Module, _given: object, output: object) -> None:
        if isinstance(output, Tensor):
            noted[name] = output

    hooks = [model.get_submodule(name).register_forward_hook(partial(note, name)) for name in layers]
    try:
        yield noted
    finally:
        for hook in hooks:
            hook.remove()


def hint_layers(
    student: nn.Module, teacher: nn.Module, train: Split, forward: Forward, named: Sequence[str] = ()
) -> tuple[str, ...]:
    """The modules at which hints can be given.

    Args:
        named: those that are asked for; without any, the top-level children whose outputs have one shape in both, but
            for one that gives the logits themselves. Where a network is wrapped in an only child, that one's children.

    Raises:
        UnsupportedError: a named module does not exist in both with outputs of one shape, or there is none at all.
    """
    few = {name: torch.from_numpy(values[:PROBE_ROWS]) for name, values in train.inputs.items()}
    names = list(named) or _children(student)
    own, theirs = (_probed(model, names, few, forward) for model in (student, teacher))
    misfits = [f"{name} ({_misfit(name, own, theirs)})" for name in names if _misfit(name, own, theirs)]
    if named and misfits:
        raise UnsupportedError(
            f"no hint can be given at {', '.join(misfits)}",
            where=WHERE,
            fix="name modules whose outputs have one shape in the student and in its original",
        )
    answer = predict(student, few, forward)
    fitting = tuple(name for name in names if not _misfit(name, own, theirs) and (named or not _is(own[name], answer)))
    if not fitting:
        raise UnsupportedError(
            "no hint can be given: no top-level module but the last has outputs of one shape in the student and in its "
            f"original: {', '.join(misfits) or 'there is none'}",
            where=WHERE,
            fix="name inner modules that keep their shape, or set compress.distil.hints to 0",
        )
    return fitting


def _children(model: nn.Module) -> list[str]:
    prefix, inner = "", model
    while len(children := dict(inner.named_children())) == 1:
        (name, inner), *_ = children.items()
        prefix += f"{name}."
    return [prefix + name for name in children]


def _probed(model: nn.Module, names: Sequence[str], few: Mapping[str, Tensor], forward: Forward) -> dict[str, Tensor]:
    existing = {name for name, _ in model.named_modules(remove_duplicate=False)}
    with outputs_of(model, [name for name in names if name in existing]) as noted:
        predict(model, few, forward)
    return noted


def _misfit(name: str, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    """Why there is no hint at a module, or ""."""
    for whose, noted in (("the student", own), ("the original", theirs)):
        if name not in noted:
            return f"it gives no tensor in {whose}"
    one, other = tuple(own[name].shape[1:]), tuple(theirs[name].shape[1:])
    return "" if one == other else f"{one} in the student, {other} in the original"


def _is(output: Tensor, answer: Tensor) -> bool:
    return output.shape == answer.shape and torch.equal(output.float(), answer)
