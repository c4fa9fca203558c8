"""What a model answers when channels are zeroed instead of removed: the check that a cut goes where it should.

Removing a channel must be the same as setting all weights of that channel to zero, in the layer that makes it and in
the layers that read it. Where the two differ, the dependency graph has followed an index to the wrong place, though
all shapes may fit. Worked example: a shortcut that pads 16 channels with 8 zero channels on either side turns channel
0 into channel 8, but Torch-Pruning 1.6.1 takes the sum that follows as index by index and removes channel 0 there.

A weight that two layers share (an embedding and the output layer, say) is no concern of Torch-Pruning: it gives the
cut layer a tensor of its own, and the model would have two where it had one. `torn` finds such weights beforehand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from trimtab.compress.replay import History

# These take a mean or a scale over channels, so a zero channel still counts where a removed one does not.
Answer = TypeVar("Answer")
MIXES_CHANNELS = (nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention, nn.RNNBase)


def zeroed(model: nn.Module, cuts: History, answer: Callable[[], Answer]) -> Answer | None:
    """`answer()` with every weight named by the cuts set to zero; the weights are put back afterwards.

    Args:
        model: before the cuts.
        answer: () → logits of this model, or all its outputs.

    Returns:
        What it gave, or None where zeroing and removing differ by nature (`MIXES_CHANNELS`).
    """
    layers = [model.get_submodule(cut["layer"]) for cut in cuts if "layer" in cut]
    if any(isinstance(layer, MIXES_CHANNELS) for layer in layers):
        return None
    touched = [entry for cut in cuts for entry in slices(model, cut)]
    before = [tensor.detach().clone() for tensor, _, _ in touched]
    with torch.no_grad():
        try:
            for tensor, dim, indices in touched:
                tensor.index_fill_(dim, torch.tensor(indices), 0.0)
            return answer()
        finally:
            for (tensor, _, _), values in reversed(list(zip(touched, before, strict=True))):
                tensor.copy_(values)


def torn(model: nn.Module, cuts: History) -> list[str]:
    """Which shared weights these cuts would tear apart: "one.weight and other.weight", one string a tensor.

    Args:
        model: before the cuts.
    """
    places: dict[int, list[str]] = defaultdict(list)
    for name, parameter in _placed(model):
        places[id(parameter)].append(name)
    shared = [names for names in places.values() if len(names) > 1]
    return sorted(" and ".join(names) for names in shared if any(_cuts(cut, name) for cut in cuts for name in names))


def _cuts(cut: dict[str, Any], parameter: str) -> bool:
    if "parameter" in cut:
        return bool(cut["parameter"] == parameter)
    # An attention layer is cut together with the output projection inside it.
    return not cut["layer"] or parameter.startswith(f"{cut['layer']}.")


def _placed(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Each parameter under each layer that owns it; a layer that has two names is named once."""
    for owner, layer in model.named_modules():
        for name, parameter in layer.named_parameters(recurse=False, remove_duplicate=False):
            yield f"{owner}.{name}" if owner else name, parameter


def slices(model: nn.Module, cut: dict[str, Any]) -> Iterator[tuple[Tensor, int, list[int]]]:
    """The tensors of one cut with the dimension and the indices in them; all of an attention or recurrent layer."""
    indices: list[int] = cut["indices"]
    if "parameter" in cut:
        yield model.get_parameter(cut["parameter"]), cut["dim"], indices
        return
    layer = model.get_submodule(cut["layer"])
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase):
        yield from ((tensor, 0, list(range(len(tensor)))) for tensor in layer.parameters())
        return
    if isinstance(layer, nn.Embedding):
        yield layer.weight, 1, indices
        return
    bias = getattr(layer, "bias", None)
    transposed = bool(getattr(layer, "transposed", False))
    if cut["side"] == "in":
        # A grouped convolution holds the input planes of one group only; the same place goes in each group.
        weight: Tensor = layer.get_parameter("weight")
        planes = weight.shape[0 if transposed else 1]
        yield weight, int(not transposed), sorted({index % planes for index in indices})
        return
    own = getattr(layer, "weight", None)
    if isinstance(own, Tensor):
        yield own, int(transposed and isinstance(layer, nn.modules.conv._ConvNd)), indices
    if isinstance(bias, Tensor):
        yield bias, 0, indices
