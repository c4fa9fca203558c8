"""Opens a candidate from the store as a torch module."""

from __future__ import annotations

from functools import partial

from torch import nn

from trimtab.candidate import Candidate
from trimtab.compress.weights import load_candidate
from trimtab.workbench import Workbench


def open_torch(bench: Workbench, candidate: Candidate) -> nn.Module:
    """The torch module of a candidate in torch format: built, pruned as recorded, weights loaded; eval mode.

    Raises:
        ModelError: its files are missing, damaged, or do not fit what the user's callable builds now.
    """
    return load_candidate(partial(bench.build, **candidate.model_kwargs), bench.folder(candidate.id))
