"""Knobs of candidates as flat parameters under the same keys, so that MLflow's compare view can draw them side by side.

Example: candidates (train), (train, prune) and (train, quantize) give three dicts that all have the keys
"prune.ratio" and "quantize.per_channel"; what a candidate was not given is "none". What is the same in all of them,
here all of "train", is left out: it is in the recipe, and a view of it would hide what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.candidate import Step

ABSENT = "none"
METHODS = "methods"
LABEL = "label"  # a step's short human name: it repeats what its other parameters say


def knobs(lineages: Sequence[Sequence[Step]]) -> list[dict[str, str]]:
    """Parameters of each lineage, all with the same keys: "methods", and "<method>.<parameter>" of those that differ.

    Where nothing differs (one candidate, or the same one on several targets) every parameter is kept. A method that
    occurs twice in one lineage is numbered from its second time on ("prune-2.ratio").
    """
    flat = [_flatten(lineage) for lineage in lineages]
    keys = sorted({key for values in flat for key in values})
    columns = {key: [values.get(key, ABSENT) for values in flat] for key in keys}
    differing = {key for key, column in columns.items() if len(set(column)) > 1}
    kept = [key for key in keys if not differing or key in differing or key == METHODS]
    return [{key: values.get(key, ABSENT) for key in kept} for values in flat]


def _flatten(lineage: Sequence[Step]) -> dict[str, str]:
    values = {METHODS: " ".join(step.method for step in lineage)}
    times: dict[str, int] = {}
    for step in lineage:
        times[step.method] = times.get(step.method, 0) + 1
        prefix = step.method if times[step.method] == 1 else f"{step.method}-{times[step.method]}"
        given = {key: value for key, value in step.parameters.items() if key != LABEL}
        values.update(_leaves(prefix, {**given, **({} if step.seed is None else {"seed": step.seed})}))
    return values


def _leaves(prefix: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {key: text for name, inner in value.items() for key, text in _leaves(f"{prefix}.{name}", inner).items()}
    return {prefix: ABSENT if value is None else str(value)}
