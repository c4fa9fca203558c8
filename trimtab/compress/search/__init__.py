"""The compression search: which candidates are made, which of them are on the Pareto front, and which try the gate.

`grid` plans without looking; `explore` measures shapes before they are trained, and `halving` says which of them are
trained on. `points` holds what was found.
"""

from trimtab.compress.search.grid import ON_THE_GRAPH, plan, precision, replan, unsearched, with_last_steps
from trimtab.compress.search.points import Point, choose, front, how_near, set_aside

__all__ = [
    "ON_THE_GRAPH",
    "Point",
    "choose",
    "front",
    "how_near",
    "plan",
    "precision",
    "replan",
    "set_aside",
    "unsearched",
    "with_last_steps",
]
