"""A recompression: which figure of the champion was too much, and which verdict said so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Figure = Literal["latency", "memory", "size"]


@dataclass(frozen=True)
class Recompress:
    """Why a release is compressed anew from its uncompressed original.

    Attributes:
        verdict: digest of the verdict that caused it.
        figure: what a new candidate must do better than the champion; otherwise nothing changes.
        size_ratio: how many times smaller than its FP32 weights the champion is.
    """

    verdict: str
    figure: Figure
    size_ratio: float
