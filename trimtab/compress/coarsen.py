"""Coarser weights for a smaller file: those of large layers keep few, evenly spaced values before they are quantized.

INT8 weights fill a byte each, and hardly shrink when the file is compressed, for all their 127 or 255 values occur.
With 31 values a byte carries about 4 bits, and a compressor finds them: quantization to fewer bits followed by entropy
coding is what Han, Mao, Dally 2016, "Deep Compression", arXiv:1510.00149, do. Here the values lie evenly, so that the
quantizer that follows writes the same few integers for all channels of a layer, and the arithmetic stays in INT8: it
is no faster and no slower. The range of each channel is the one at which least is lost, as in `clip`.

The small layers keep their weights. The first ones of a network are among them, which cost most when they are rounded,
and together they hardly count in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trimtab.compress.clip import best_limits
from trimtab.compress.weight_rows import as_rows, put_rows, weighted_layers


@torch.no_grad()
def coarsen(model: nn.Module, bits: int, spared: float) -> dict[str, Any]:
    """Round the weights of convolutions and linear layers, in place, to 2**bits - 1 values an output channel.

    Batch norm that is folded into a layer afterwards scales channels as a whole, and the values stay evenly spaced.

    Args:
        bits: 2 to 7. Worked example: 5 gives -15 … 15 times a fifteenth of the channel's range.
        spared: the smallest layers stay as they are, as many as hold no more than this share of all weights.

    Returns:
        Facts: {"bits", "layers": names of those that were rounded, "weights": share of all weights that they hold,
        "error": root mean square of what their weights changed by, over that of the weights}.

    Raises:
        UnsupportedError: there is no such layer, or a weight is NaN or infinite. The model is unchanged.
    """
    layers = weighted_layers(model, "made coarser", "compress.coarsen")
    chosen = large_layers({name: layer.weight.numel() for name, layer in layers.items()}, spared)
    changed = whole = 0.0
    for name in chosen:
        rows = as_rows(layers[name])
        coarse = on_grid(rows, bits)
        changed += float((rows - coarse).double().square().sum())
        whole += float(rows.double().square().sum())
        put_rows(coarse, layers[name])
    total = sum(layer.weight.numel() for layer in layers.values())
    held = sum(layers[name].weight.numel() for name in chosen)
    return {
        "bits": bits,
        "layers": chosen,
        "weights": held / total,
        "error": (changed / whole) ** 0.5 if whole else 0.0,
    }


def large_layers(sizes: Mapping[str, int], spared: float) -> list[str]:
    """All but the smallest layers that together hold no more than the share `spared`, in the order of `sizes`."""
    left, small = spared * sum(sizes.values()), set[str]()
    for name in sorted(sizes, key=lambda one: (sizes[one], one)):
        left -= sizes[name]
        if left < 0:
            break
        small.add(name)
    return [name for name in sizes if name not in small]


def on_grid(rows: Tensor, bits: int) -> Tensor:
    """Float (rows, weights), each row on the 2**bits - 1 even steps of the range that loses least; zero stays zero."""
    steps, limits = 2 ** (bits - 1) - 1, best_limits(rows, bits)[:, None]
    scale = (limits / steps).clamp_min(torch.finfo(rows.dtype).tiny)
    return (rows / scale).round().clamp(-steps, steps) * scale
