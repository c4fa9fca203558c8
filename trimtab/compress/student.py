"""Students of the same family: the user's callable with other keyword arguments, taught by the original from scratch.

Hinton, Vinyals, Dean 2015, arXiv:1503.02531: the student need not be cut from its teacher. A student is random until it
is distilled, so its step comes first in a plan and a distillation right after it. What it was built with is in its
step, and so in the record of every candidate made from it: that is how it is built again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from trimtab.candidate import Step, digest_of
from trimtab.errors import UnsupportedError, UserCodeError
from trimtab.model_check import check_module
from trimtab.optimize.seeding import seeded
from trimtab.recipe.schema import Student
from trimtab.workbench import Workbench

METHOD = "student"
KEY = "compress.student.kwargs"
LONGEST_LABEL = 40


def student_steps(students: Student | None, seed: int) -> list[Step]:
    """The first step of each student's plan, one for each set of arguments; equal sets count once."""
    sets = {digest_of(kwargs): kwargs for kwargs in students.kwargs} if students else {}
    return [Step(METHOD, {"kwargs": kwargs, "label": _label(kwargs)}, seed) for kwargs in sets.values()]


def student_kwargs(lineage: Sequence[Step]) -> dict[str, Any]:
    """What the user's callable is given besides `model.kwargs` to build the module of this lineage; {} for most."""
    return {key: value for step in lineage if step.method == METHOD for key, value in step.parameters["kwargs"].items()}


def build_student(bench: Workbench, step: Step, searched: Mapping[str, Any] | None = None) -> nn.Module:
    """The student as its step says: built anew, initialised by the step's seed, untrained.

    Args:
        searched: keyword arguments a search found for the original; the student's own come before them.

    Raises:
        UserCodeError: the callable refuses the arguments, or raised; or forward did.
        ModelError: it is no nn.Module, or does not give the task's logits.
    """
    kwargs = step.parameters["kwargs"]
    where = f"{KEY}: {json.dumps(kwargs)}"
    with seeded(step.seed or 0):
        try:
            model = bench.build(**{**(searched or {}), **kwargs})
        except UserCodeError as error:
            fix = f"give arguments that {bench.recipe.model.callable} takes; they are merged over model.kwargs"
            raise UserCodeError(error.what, where=where, fix=fix) from None
    check_module(bench, model, where)
    return model


def check_students(bench: Workbench) -> None:
    """Build every student of the recipe and send the example rows through it, before anything is trained.

    Raises:
        UserCodeError, ModelError: as `build_student`.
    """
    for step in student_steps(bench.recipe.compress.student, bench.recipe.train.seed):
        build_student(bench, step)


def check_order(steps: Sequence[Step]) -> None:
    """Refuse a plan in which a student is not the first step, or is not distilled right away.

    Raises:
        UnsupportedError: naming what is wrong with the plan.
    """
    methods = [step.method for step in steps]
    if METHOD not in methods:
        return
    if METHOD in methods[1:]:
        raise UnsupportedError(
            f"a student comes first in a plan, this one is {', '.join(methods)}",
            where="compress.student",
            fix="give each student a plan of its own",
        )
    if methods[1:2] != ["distil"]:
        raise UnsupportedError(
            f"a student knows nothing before it is distilled, and this plan is {', '.join(methods)}",
            where="compress.student",
            fix="switch compress.distil on",
        )


def _label(kwargs: Mapping[str, Any]) -> str:
    """E.g. "student-depth=2-width=8"; where that is long, the digest's first digits."""
    words = [f"{key}={json.dumps(value)}" for key, value in sorted(kwargs.items())]
    text = "-".join(re.sub(r"[^\w.=]+", "-", word).strip("-") for word in words).replace("=-", "=")
    return f"student-{text}" if 0 < len(text) <= LONGEST_LABEL else f"student-{digest_of(kwargs)[:8]}"
