"""The pruning history: JSON that turns a freshly built, unpruned model into the pruned structure.

A history is a list of cuts, one for every layer that a pruned channel touches. Worked example: removing channel 1 of
`conv1` in conv1 → bn1 → conv2 is three cuts::

    {"layer": "conv1", "side": "out", "dim": 1, "indices": [1]}
    {"layer": "bn1",   "side": "out", "dim": 1, "indices": [1]}
    {"layer": "conv2", "side": "in",  "dim": 1, "indices": [1]}

Cuts are explicit, so replaying needs no trace of the model and no example input: the dependency graph has done its
work when the history is written. Indices are those at the time of the cut, so the order matters.

A block that was dropped whole (see `shorten`) is one entry, `{"block": "layers.2"}`: the submodule of that name makes
way for an identity, and its weights are in no file any more.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch_pruning as tp
from torch import Tensor, nn

from trimtab.errors import ModelError

Cut = dict[str, Any]
History = list[Cut]

# Torch-Pruning 1.6.1 keeps one pruner object a layer type for the whole process and sets `pruning_dim` on it before
# each call, so two threads must not prune at once.
PRUNERS_ARE_SHARED = threading.RLock()


class Dropped(nn.Identity):
    """What stands where a block was: returns its first argument, as `nn.Identity` does.

    Other arguments, such as the masks that `nn.TransformerEncoder` hands to each layer, are ignored.
    """

    def forward(self, input: Tensor, *_: Any, **__: Any) -> Tensor:
        return input


def replay(model: nn.Module, history: Sequence[Cut]) -> nn.Module:
    """Apply every cut in place, in order, and return the model.

    Raises:
        ModelError: the history does not fit: a layer is missing, or an index is beyond its channels.
    """
    with PRUNERS_ARE_SHARED:
        # With duplicates: a tied weight is named by its first owner, which a cut may drop.
        every = model.named_parameters(remove_duplicate=False)
        trainable = {name: parameter.requires_grad for name, parameter in every}
        for position, cut in enumerate(history):
            try:
                _apply(model, cut)
            except (AttributeError, KeyError, TypeError, IndexError, RuntimeError, ValueError) as error:
                raise ModelError(
                    f"cut {position + 1} of {len(history)} does not fit this model: {error}",
                    where=str(cut.get("layer") or cut.get("parameter") or cut.get("block") or "pruning.json"),
                    fix="build the same model the history was written for (same code, same kwargs)",
                ) from error
        # Cut parameters are new objects, which require gradients whatever the old ones did.
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trainable[name])
    return model


def _apply(model: nn.Module, cut: Cut) -> None:
    if "block" in cut:
        model.get_submodule(cut["block"])  # raises where there is none; set_submodule would make one
        model.set_submodule(cut["block"], Dropped())
        return
    indices, dim = [int(index) for index in cut["indices"]], int(cut["dim"])
    if "parameter" in cut:
        owner_name, _, name = cut["parameter"].rpartition(".")
        owner = model.get_submodule(owner_name)
        pruner = tp.pruner.function.PrunerBox[tp.ops.OPTYPE.PARAMETER]
        pruner.pruning_dim = dim
        _check(indices, pruner.get_out_channels(getattr(owner, name)))
        setattr(owner, name, pruner.prune_out_channels(getattr(owner, name), indices))
        return
    layer = model.get_submodule(cut["layer"])
    pruner = tp.pruner.function.PrunerBox[tp.ops.module2type(layer)]
    pruner.pruning_dim = dim
    outwards = cut["side"] == "out"
    _check(indices, pruner.get_out_channels(layer) if outwards else pruner.get_in_channels(layer))
    (pruner.prune_out_channels if outwards else pruner.prune_in_channels)(layer, indices)


def _check(indices: list[int], channels: int | None) -> None:
    # Without this check, an index that does not exist would be counted as removed and the shapes would be wrong.
    if channels is not None and (len(indices) >= channels or not all(0 <= i < channels for i in indices)):
        raise ValueError(f"it removes {len(indices)} channels up to {max(indices)} of {channels}")
