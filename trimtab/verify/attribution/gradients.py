"""Integrated gradients (Sundararajan et al. 2017), by Captum: gradients summed on the way from usual values to the row.

They add up to the log-odds of the row (of a regression: the answered number) minus those of the usual values, each
region with its share. A gradient needs the
torch module and floating-point inputs; of a quantized graph the module it was made from is explained.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from trimtab.errors import UnsupportedError
from trimtab.verify.attribution.occlusion import LEAST
from trimtab.verify.attribution.regions import Layout

if TYPE_CHECKING:
    from torch import Tensor, nn

Array = np.ndarray
STEPS = 50
ROWS_A_CALL = 128


def check_gradients(inputs: Mapping[str, Array]) -> None:
    """Whether integrated gradients can be taken.

    Raises:
        UnsupportedError: Captum is not installed, or an input is not floating-point.
    """
    if find_spec("captum") is None:
        raise UnsupportedError(
            "integrated gradients are computed by Captum, which is not installed",
            where="verify.explain.method",
            fix="pip install 'trimtab[explain]', or set it to occlusion",
        )
    if whole := [name for name, values in inputs.items() if values.dtype.kind != "f"]:
        raise UnsupportedError(
            f"there is no gradient with respect to whole numbers: {', '.join(whole)}",
            where="verify.explain.method",
            fix="set it to occlusion",
        )


def integrated_gradients(
    module: nn.Module,
    inputs: Mapping[str, Array],
    decided: Array,
    layout: Layout,
    replacement: Mapping[str, Array],
    numbers: bool = False,
) -> Array:
    """What each region speaks for a decision, float64 (n, regions), in log-odds; of a regression in its numbers' unit.

    Args:
        module: raw inputs → probabilities (n, classes), or numbers (n, k), as deployed.
        inputs: name → float array (n, ...). decided: int (n,), the class whose odds are looked at, or which number.
        replacement: name → one row, where the way begins.
        numbers: whether it is a regression.

    Raises:
        UnsupportedError: as `check_gradients`.
    """
    check_gradients(inputs)
    import torch
    from captum.attr import IntegratedGradients

    from trimtab.runtime.eager import call, several

    names = list(inputs)

    def worth(*values: Tensor) -> Tensor:
        *tensors, chosen = values
        answers = several(call(module, dict(zip(names, tensors, strict=True))))[0].double()
        mask = torch.nn.functional.one_hot(chosen, answers.shape[1]).bool()
        own = answers.masked_fill(~mask, 0).sum(dim=1)
        if numbers:
            return own
        others = answers.masked_fill(mask, 0).sum(dim=1)
        return own.clamp_min(LEAST).log() - others.clamp_min(LEAST).log()

    found = IntegratedGradients(worth).attribute(
        tuple(torch.tensor(inputs[name]) for name in names),
        baselines=tuple(torch.tensor(replacement[name])[None] for name in names),
        additional_forward_args=(torch.tensor(decided, dtype=torch.int64),),
        n_steps=STEPS,
        internal_batch_size=max(ROWS_A_CALL, len(decided)),
    )
    by_name = {name: values.detach().double().numpy() for name, values in zip(names, found, strict=True)}
    columns = [by_name[r.input][(slice(None), *r.place)].reshape(len(decided), -1).sum(axis=1) for r in layout.regions]
    return np.stack(columns, axis=1)
