"""What is said of a conversion that went wrong: which layer, and both values. Plain: no runtime is imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from trimtab.candidate import Json


@dataclass(frozen=True)
class FirstDifference:
    """The first layer whose result differs.

    Attributes:
        layer: of the original, e.g. "model.0 (Conv2d, aten.convolution)".
        operation: of the converted graph, e.g. "Conv 'getitem'".
        agrees: the last layers that still agree and lead to it.
        missing: what the original computes between those and the layer, and the graph nowhere: folded, or left out.
        max_abs: largest absolute difference; index: where, row first; expected, given: both values there. None is a
            figure that is not finite; the index is empty where nothing of the same size can be laid beside it.
        resolution: how many results of the graph were found in the original, in words.
    """

    layer: str
    operation: str
    agrees: tuple[str, ...]
    missing: tuple[str, ...]
    max_abs: float | None
    index: tuple[int, ...]
    expected: float | None
    given: float | None
    resolution: str

    def __str__(self) -> str:
        figures = "in its shape"
        if self.index:
            most = "" if self.max_abs is None else f"by up to {self.max_abs:.3g}: "
            figures = f"{most}at {list(self.index)} it should be {_figure(self.expected)} and is {_figure(self.given)}"
        missing = f", and {', '.join(self.missing)} is nowhere in it" if self.missing else ""
        return (
            f"it first differs at {self.layer}, in the converted graph {self.operation}, {figures}; "
            f"up to {', '.join(self.agrees)} it agrees{missing} ({self.resolution})"
        )

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> FirstDifference:
        """The inverse of `to_json`."""
        return cls(
            **{
                **value,
                "agrees": tuple(value["agrees"]),
                "missing": tuple(value["missing"]),
                "index": tuple(value["index"]),
            }
        )


def _figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6g}"
