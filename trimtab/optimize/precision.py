"""The numeric precision of training: fp32, or bf16 products with fp32 weights."""

from __future__ import annotations

from typing import Literal

import torch

from trimtab.errors import UnsupportedError

LightningPrecision = Literal["32-true", "bf16-mixed"]
LIGHTNING: dict[str, LightningPrecision] = {"fp32": "32-true", "bf16": "bf16-mixed"}


def lightning_precision(precision: str) -> LightningPrecision:
    """Lightning's name of a precision. bf16 is torch's autocast: weights and optimizer state stay fp32.

    Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740; bf16 has fp32's range and needs no scaling
    of the loss.

    Raises:
        UnsupportedError: bf16 on a CPU for which torch has no bf16 kernels; nothing is trained in fp32 instead.
    """
    if precision == "bf16" and not cpu_has_bf16():
        raise UnsupportedError(
            "torch has no bf16 kernels for this CPU",
            where="train.precision",
            fix="set train.precision to fp32, or train on a CPU with AVX-512 or Arm bf16",
        )
    return LIGHTNING[precision]


def cpu_has_bf16() -> bool:
    """Whether torch's oneDNN computes bf16 on this CPU; False in a build without oneDNN."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported is not None and supported())
