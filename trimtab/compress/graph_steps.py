"""Steps on the graph, by the name of their method: each reads the FP32 build of a runtime and writes another graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from trimtab.candidate import Format, Step
from trimtab.compress.cluster import cluster
from trimtab.compress.half import half
from trimtab.compress.learned_ranges import Ranges
from trimtab.compress.module_steps import settings_of
from trimtab.compress.pack_sparse import pack_sparse
from trimtab.compress.quantize import quantize
from trimtab.compress.quantize_executorch import quantize_executorch
from trimtab.compress.quantize_litert import quantize_litert
from trimtab.compress.quantize_openvino import quantize_openvino
from trimtab.recipe.schema import Quantize, QuantizeOpenvino
from trimtab.workbench import Workbench

FLOAT_GRAPH: Mapping[Format, str] = {  # the target whose files are the FP32 graph in a form
    "onnx": "onnxruntime-cpu",
    "openvino": "openvino-cpu",
    "executorch": "executorch-cpu",
    "litert": "litert-cpu",
}
# Methods that do not rewrite the ONNX graph → which form they write.
FORMS: Mapping[str, Format] = {
    "quantize_openvino": "openvino",
    "quantize_executorch": "executorch",
    "quantize_litert": "litert",
}
Facts = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """What a step on the graph begins from.

    Attributes:
        build: the folder of the FP32 build.
        module: gives the deployed module the build was made from, for a quantizer that cannot read the file.
        ranges: those the module was trained with, if any.
    """

    build: Path
    module: Callable[[], nn.Module]
    ranges: Ranges = field(default_factory=dict)


def form_of(method: str) -> Format:
    """Which graph a method rewrites."""
    return FORMS.get(method, "onnx")


def _quantize(bench: Workbench, source: Source, step: Step, out: Path) -> Facts:
    train = bench.splits["train"].inputs
    settings, judged_on = Quantize.model_validate(settings_of(step)), bench.splits["validation"]
    graph = source.build / "model.onnx"
    return quantize(graph, train, train, settings, out, judged_on=judged_on, learned=source.ranges)


def _quantize_openvino(bench: Workbench, source: Source, step: Step, out: Path) -> Facts:
    train = bench.splits["train"].inputs
    return quantize_openvino(source.build, train, train, QuantizeOpenvino.model_validate(settings_of(step)), out)


def _own(quantizer: Callable[..., Facts]) -> Callable[[Workbench, Source, Step, Path], Facts]:
    """The step of a target whose format has a quantizer of its own, which works on the module."""

    def write(bench: Workbench, source: Source, step: Step, out: Path) -> Facts:
        train = {name: bench.splits["train"].inputs[name] for name in bench.example}
        return quantizer(source.module(), train, train, Quantize.model_validate(settings_of(step)), out)

    return write


def _cluster(_: Workbench, source: Source, step: Step, out: Path) -> Facts:
    return cluster(source.build / "model.onnx", step.parameters["bits"], out)


def _half(_: Workbench, source: Source, step: Step, out: Path) -> Facts:
    return half(source.build / "model.onnx", out)


def _pack_sparse(_: Workbench, source: Source, step: Step, out: Path) -> Facts:
    return pack_sparse(source.build / "model.onnx", out)


GRAPH_STEPS: Mapping[str, Callable[[Workbench, Source, Step, Path], Facts]] = {
    "quantize": _quantize,
    "quantize_openvino": _quantize_openvino,
    "quantize_executorch": _own(quantize_executorch),
    "quantize_litert": _own(quantize_litert),
    "cluster": _cluster,
    "half": _half,
    "pack_sparse": _pack_sparse,
}
