"""What decides how long a network takes, read off one forward pass; see `latency_model`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trimtab.compress.count import count
from trimtab.optimize.predicting import Forward, predict


def features_of(model: nn.Module, rows: dict[str, Tensor], forward: Forward) -> dict[str, float]:
    """{"macs", "parameters", "activations", "layers"} of one row.

    Activations are the elements of the outputs of all calls of modules that have no submodules; layers are those
    calls whose module has parameters. Operations outside modules are not seen.
    """
    seen = {"activations": 0.0, "layers": 0.0}

    def after(module: nn.Module, _: Any, answer: Any) -> None:
        tensors = [answer] if isinstance(answer, Tensor) else [v for v in _flat(answer) if isinstance(v, Tensor)]
        seen["activations"] += sum(tensor[:1].numel() for tensor in tensors if tensor.dim())
        seen["layers"] += any(True for _ in module.parameters())

    hooks = [m.register_forward_hook(after) for m in model.modules() if not any(True for _ in m.children())]
    try:
        with torch.no_grad():
            predict(model, {name: value[:1] for name, value in rows.items()}, forward)
    finally:
        for hook in hooks:
            hook.remove()
    return {**{name: float(value) for name, value in count(model, rows, forward).items()}, **seen}


def shares(features: dict[str, float], of: dict[str, float]) -> dict[str, float]:
    """Each feature as a share of the original's; one that the original has none of is zero."""
    return {name: features[name] / of[name] if of[name] else 0.0 for name in of}


def _flat(answer: Any) -> list[Any]:
    return list(answer.values()) if isinstance(answer, dict) else list(answer) if isinstance(answer, tuple) else []
