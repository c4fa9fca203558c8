"""A recipe's module as it is deployed, and the specification that every build of a release has."""

from __future__ import annotations

from typing import Any

from torch import nn

from trimtab.convert.graph import deployed, spec_of
from trimtab.workbench import Workbench


def deployed_of(bench: Workbench, model: nn.Module, *, deciding: bool = False) -> nn.Module:
    """The deployed graph of a candidate's module, in eval mode.

    Args:
        deciding: with the output that decides alone, as one tensor.
    """
    outputs = bench.recipe.outputs
    kept = outputs.deciding if deciding else outputs
    return deployed(model, bench.recipe.preprocess, bench.task.regression, kept)


def spec_for(bench: Workbench) -> dict[str, Any]:
    """What goes into spec.json of every build.

    Raises:
        UnsupportedError: an input's dtype is not float32, int64 or bool. ModelError: an output cannot be kept.
    """
    return spec_of(bench.example, bench.outputs, bench.task.output, bench.recipe.axes, bench.further)
