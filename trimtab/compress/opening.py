"""Opens a candidate from the store as a torch module."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from trimtab.candidate import Candidate
from trimtab.compress.student import student_kwargs
from trimtab.compress.weights import load_candidate
from trimtab.workbench import Workbench


def open_torch(bench: Workbench, candidate: Candidate) -> nn.Module:
    """The torch module of a candidate in torch format: built, pruned as recorded, weights loaded; eval mode.

    A student, and what was made from one, is built with the arguments its record says.

    Raises:
        ModelError: its files are missing, damaged, or do not fit what the user's callable builds now.
    """
    return load_candidate(partial(bench.build, **arguments_of(candidate)), bench.folder(candidate.id))


def arguments_of(candidate: Candidate) -> dict[str, Any]:
    """Arguments of the user's callable that its record says, in place of the recipe's."""
    return {**candidate.model_kwargs, **student_kwargs(candidate.lineage)}
