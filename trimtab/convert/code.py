"""What builds a release's module, for the formats that ship the user's code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from trimtab.convert.job import Code
from trimtab.workbench import Workbench


def code_of(bench: Workbench, overrides: Mapping[str, Any]) -> Code:
    """The recipe's callable.

    Args:
        overrides: arguments in place of the recipe's.
    """
    model = bench.recipe.model
    kwargs = {**model.kwargs, **overrides}
    return Code(model.callable, kwargs, bench.code.folder, partial(bench.build, **kwargs))
