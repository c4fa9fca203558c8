"""Weight clipping: the few largest weights are cut back to where quantizing all of them loses least.

A quantizer that takes its range from the largest weight spends its steps on outliers. For each layer, or each output
channel, the range is sought at which the mean squared error of uniform quantization is least: clipping the outliers
costs some of it, finer steps for all others win some. Zhao et al. 2019, "Improving Neural Network Quantization without
Retraining using Outlier Channel Splitting", arXiv:1901.09504, compare this with other ways to clip; Banner et al. 2019
(ACIQ), arXiv:1810.05723, derive it for given distributions. Here the error is computed from the weights themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trimtab.compress.weight_rows import as_rows, put_rows, weighted_layers

SHARES = tuple(share / 100 for share in range(100, 19, -1))  # of the largest weight, tried as the range


@torch.no_grad()
def clip(model: nn.Module, bits: int, per_channel: bool = True) -> dict[str, Any]:
    """Clip the weights of convolutions and linear layers, in place; where no clipping helps they stay as they are.

    Args:
        bits: of the symmetric quantization that is to follow, 2 to 8: values -(2**(bits-1) - 1) to its negative.
        per_channel: a range for each output channel; it must be what the quantizer does. Batch norm that is folded
            into a layer afterwards scales channels as a whole, which changes nothing here; it would a layer's range.

    Returns:
        Facts: {"bits", "clipped": share of the weights that were changed, "error_before" and "error_after": mean
        squared error of quantizing them}.

    Raises:
        UnsupportedError: there is no such layer, or a weight is NaN or infinite. The model is unchanged.
    """
    found = weighted_layers(model, "clipped", "compress.clip")
    clipped, total, before, after = 0, 0, 0.0, 0.0
    for layer in found.values():
        rows = as_rows(layer, per_channel)
        limits = best_limits(rows, bits)
        largest = rows.abs().amax(1)
        before += float(_errors(rows, largest, bits).sum())
        after += float(_errors(rows, limits, bits).sum())
        clipped += int((rows.abs() > limits[:, None]).sum())
        total += rows.numel()
        put_rows(rows.clamp(-limits[:, None], limits[:, None]), layer, per_channel)
    return {"bits": bits, "clipped": clipped / total, "error_before": before / total, "error_after": after / total}


def best_limits(rows: Tensor, bits: int) -> Tensor:
    """The range at which the squared error of quantization is least, each row on its own.

    Args:
        rows: float (rows, weights).
        bits: 2 to 8.

    Returns:
        Float (rows,): a share of each row's largest magnitude; of equally good ones the largest.
    """
    largest = rows.abs().amax(1)
    errors = torch.stack([_errors(rows, largest * share, bits) for share in SHARES])
    # argmin need not give the first of equals: shares fall, and the first is no clipping at all.
    first = (errors == errors.amin(0)).to(torch.uint8).argmax(0)
    return largest * torch.tensor(SHARES, dtype=rows.dtype)[first]


def _errors(rows: Tensor, limits: Tensor, bits: int) -> Tensor:
    """Sum of squares of what quantization to [-limit, limit] changes, float64 (rows,)."""
    steps = 2 ** (bits - 1) - 1
    scale = (limits / steps)[:, None].clamp_min(torch.finfo(rows.dtype).tiny)
    quantized = (rows / scale).round().clamp(-steps, steps) * scale
    return (rows - quantized).double().square().sum(1)
