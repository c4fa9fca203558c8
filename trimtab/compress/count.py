"""How large a module is and how much it computes, as its graph has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trimtab.compress.replay import PRUNERS_ARE_SHARED, History
from trimtab.optimize.predicting import Forward, predict


@dataclass(frozen=True)
class Reduction:
    """What cuts did to a module.

    Attributes:
        history: the cuts, see `replay`; empty when nothing was asked for.
        before: {"parameters": count, "macs": multiply-accumulates of one row}.
        after: the same, achieved; a search must rank by these, not by what was asked for.
    """

    history: History
    before: dict[str, int]
    after: dict[str, int]

    @property
    def removed_share(self) -> float:
        """Share of the parameters that was removed, 0 … 1."""
        return 1 - self.after["parameters"] / self.before["parameters"]

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return asdict(self)


def parameters_of(model: nn.Module) -> int:
    """Elements of all parameters, each tensor once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count(model: nn.Module, rows: dict[str, Tensor], forward: Forward) -> dict[str, int]:
    """{"parameters": each tensor once, "macs": multiply-accumulates of one row} of a model; its mode is kept.

    Counted are convolutions and matrix products; not recurrent layers, which PyTorch's counter passes over.
    """
    one = {name: value[:1] for name, value in rows.items()}
    with PRUNERS_ARE_SHARED:  # the switch below is for the whole process too
        fast = torch.backends.mha.get_fastpath_enabled()
        try:
            # Fused attention is one operation, which the counter does not know; unfused it is matrix products.
            torch.backends.mha.set_fastpath_enabled(False)
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                predict(model, one, forward)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
    # The counter counts a multiply-accumulate as two operations.
    return {"parameters": parameters_of(model), "macs": counter.get_total_flops() // 2}
