"""On a recompression: is the candidate better than the champion at the very figure that was too much?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from trimtab.candidate import Json
from trimtab.recompress import Figure
from trimtab.verify.decision import Check

UNITS: dict[Figure, str] = {"latency": "ms", "memory": "MiB", "size": "bytes"}


@dataclass(frozen=True)
class Rival:
    """Champion and candidate at one figure, measured in the same run; less is better.

    Attributes:
        champion, own: the figures, in milliseconds (median at the first batch size), MiB (peak) or bytes.
        gain: how many times better the candidate is; of latency the median over interleaved rounds.
        noise: a gain must be larger than 1 + noise to be one.
    """

    figure: Figure
    champion: float
    own: float
    gain: float
    noise: float

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Rival:
        """The inverse of `to_json`."""
        return cls(**value)


def check_rival(rival: Rival) -> Check:
    """The gate's answer: a recompression that gains nothing must not replace what serves."""
    unit, limit = UNITS[rival.figure], 1 + rival.noise
    shown = "{:,.0f}" if rival.figure == "size" else "{:.3f}"
    figures = (
        f"{shown.format(rival.own)} {unit}, the champion {shown.format(rival.champion)} {unit} in the same run: "
        f"{rival.gain:.2f} times better; more than {limit:.2f} is a gain"
    )
    return Check(f"better than the champion in {rival.figure}", limit, rival.gain, None, rival.gain > limit, figures)
