"""Steps on the ONNX graph, by the name of their method: each reads one graph and writes another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trimtab.candidate import Step
from trimtab.compress.cluster import cluster
from trimtab.compress.half import half
from trimtab.compress.module_steps import settings_of
from trimtab.compress.pack_sparse import pack_sparse
from trimtab.compress.quantize import quantize
from trimtab.recipe.schema import Quantize
from trimtab.workbench import Workbench

Facts = dict[str, Any]


def _quantize(bench: Workbench, graph: Path, step: Step, out: Path) -> Facts:
    train = bench.splits["train"].inputs
    return quantize(graph, train, train, Quantize.model_validate(settings_of(step)), out)


def _cluster(_: Workbench, graph: Path, step: Step, out: Path) -> Facts:
    return cluster(graph, step.parameters["bits"], out)


def _half(_: Workbench, graph: Path, step: Step, out: Path) -> Facts:
    return half(graph, out)


def _pack_sparse(_: Workbench, graph: Path, step: Step, out: Path) -> Facts:
    return pack_sparse(graph, out)


GRAPH_STEPS: Mapping[str, Callable[[Workbench, Path, Step, Path], Facts]] = {
    "quantize": _quantize,
    "cluster": _cluster,
    "half": _half,
    "pack_sparse": _pack_sparse,
}
