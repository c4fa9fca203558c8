"""Mixed precision: the nodes that cost the most accuracy stay in float, as few of them as it takes.

Nodes are ranked once, by what quantizing each alone does to the answers (`layer_sensitivity`); how many of them, from
the most sensitive on, have to stay in float is found by bisection over measured accuracies. This is the greedy search
of Wu et al. 2020, arXiv:2004.09602, section "Partial Quantization", in log2(nodes) steps instead of one a node. That a
node more in float does not lower the accuracy is taken for granted; where it is not so, the result still meets the
margin, but with fewer nodes it might have been met too.

The accuracy is that on the validation split. On training rows a network is sure of nearly every answer, and INT8 seems
to lose nothing; the figures on validation are in turn a little too good for what is chosen on them, as they are for the
choice among candidates. The gate decides on rows that neither has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from trimtab.compress.layer_sensitivity import Sensitivity, answers, sensitivities
from trimtab.compress.quantize_static import Calibrated
from trimtab.data import Split
from trimtab.errors import UnsupportedError

ROUNDING = 1e-12  # a drop that is the margin exactly must not fail by rounding of a difference of two shares


@dataclass(frozen=True)
class MixedPrecision:
    """Which nodes stay in float, and what was measured on the way.

    Attributes:
        max_drop: the margin. rows: how many the accuracies are of.
        accuracy_float: of the FP32 graph. accuracy: of the result.
        tried: number of nodes in float → accuracy; 0 is the fully quantized graph.
        kept: the nodes in float, the most sensitive first; empty if the margin was met at once.
    """

    max_drop: float
    rows: int
    accuracy_float: float
    accuracy: float
    tried: dict[int, float]
    kept: Sequence[Sensitivity]

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe; {"kept_in_float": [{"node", "operator", "weighted", "follows", "sqnr_db"}], …}."""
        return {
            "max_drop": self.max_drop,
            "rows": self.rows,
            "accuracy_float": self.accuracy_float,
            "accuracy": self.accuracy,
            "tried": [{"in_float": count, "accuracy": found} for count, found in sorted(self.tried.items())],
            "kept_in_float": [one.to_json() for one in self.kept],
        }


def keep_within(calibrated: Calibrated, judged_on: Split, max_drop: float) -> tuple[onnx.ModelProto, MixedPrecision]:
    """The INT8 graph with as few nodes in float as keep its accuracy within `max_drop` of the float graph's.

    Raises:
        UnsupportedError: no layer could be in INT8.
    """
    accuracy_float = _accuracy(calibrated.before, judged_on)
    least = accuracy_float - max_drop - ROUNDING
    tried = {0: _accuracy(calibrated.full, judged_on)}
    if tried[0] >= least:
        return calibrated.full, MixedPrecision(max_drop, len(judged_on), accuracy_float, tried[0], tried, ())
    ranked = sensitivities(calibrated)
    graphs: dict[int, onnx.ModelProto] = {}
    misses, meets = 0, _all_layers(ranked)
    while meets - misses > 1:
        count = (misses + meets) // 2
        graphs[count] = _without(calibrated, ranked[:count])
        tried[count] = _accuracy(graphs[count], judged_on)
        misses, meets = (misses, count) if tried[count] >= least else (count, meets)
    if meets not in graphs:
        raise UnsupportedError(
            f"no layer can be in INT8 within {max_drop:g}: accuracy is {accuracy_float:.4f} in float, "
            f"{tried[misses]:.4f} with {misses} of {len(ranked)} nodes left in float, {tried[0]:.4f} with none "
            f"({len(judged_on)} validation rows)",
            where="compress.quantize.max_drop",
            fix="raise it, choose another compress.quantize.calibration, or set compress.quantize to null",
        )
    kept = tuple(ranked[:meets])
    return graphs[meets], MixedPrecision(max_drop, len(judged_on), accuracy_float, tried[meets], tried, kept)


def _all_layers(ranked: Sequence[Sensitivity]) -> int:
    """How many nodes, from the first on, hold all layers with weights: with them in float nothing is left to gain."""
    return max((place + 1 for place, one in enumerate(ranked) if one.weighted), default=0)


def _without(calibrated: Calibrated, kept: Sequence[Sensitivity]) -> onnx.ModelProto:
    return calibrated.written(without=[name for one in kept for name in (one.node, *one.follows)])


def _accuracy(graph: onnx.ModelProto, judged_on: Split) -> float:
    return float((answers(graph, judged_on.inputs).argmax(1) == judged_on.labels).mean())
