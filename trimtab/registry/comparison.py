"""Knobs of candidates as flat parameters under the same keys, so that MLflow's compare view can draw them side by side.

Example: candidates (train), (train, prune) and (train, quantize) give three dicts that all have the keys
"prune.ratio" and "quantize.per_channel"; what a candidate was not given is "none".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.candidate import Step

ABSENT = "none"


def knobs(lineages: Sequence[Sequence[Step]]) -> list[dict[str, str]]:
    """Parameters of each lineage, all with the same keys "<method>.<parameter>" and "methods".

    A method that occurs twice in one lineage is numbered from its second time on ("prune-2.ratio").
    """
    flat = [_flatten(lineage) for lineage in lineages]
    keys = sorted({key for values in flat for key in values})
    return [{key: values.get(key, ABSENT) for key in keys} for values in flat]


def _flatten(lineage: Sequence[Step]) -> dict[str, str]:
    values = {"methods": " ".join(step.method for step in lineage)}
    times: dict[str, int] = {}
    for step in lineage:
        times[step.method] = times.get(step.method, 0) + 1
        prefix = step.method if times[step.method] == 1 else f"{step.method}-{times[step.method]}"
        given = {**step.parameters, **({} if step.seed is None else {"seed": step.seed})}
        values.update(_leaves(prefix, given))
    return values


def _leaves(prefix: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {key: text for name, inner in value.items() for key, text in _leaves(f"{prefix}.{name}", inner).items()}
    return {prefix: ABSENT if value is None else str(value)}
