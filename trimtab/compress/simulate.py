"""A module that answers as its INT8 graph will, and can be trained: the module's own parameters, rounded on the way.

The module is captured by `torch.export`, which gives a graph of operators whatever the code looks like. Where the INT8
graph rounds (`int8_sites`) is found in it by value: a tensor of the ONNX graph and a node of the captured one are the
same where they hold the same numbers for the same rows. Names and the exporter's rewritings play no part in that.

Batch norm stays in evaluation mode, with the statistics it has, and is folded into the weight *before* that is rounded,
as in the file; its scale and shift are trained. Krishnamoorthi 2018, arXiv:1806.08342, section 3.2: statistics of
batches make training with folded weights jitter, and frozen ones end more accurate. Dropout is off as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from trimtab.compress.fake_quantize import ActivationRange
from trimtab.compress.int8_sites import ActivationSite, WeightSite
from trimtab.compress.weight_rounding import round_weights

Array = np.ndarray
SAME = 1e-3  # relative to the largest magnitude: two runtimes compute float32 each in its own order
PREFIX = "module."  # of parameters, by the wrapper that exporters are given


@dataclass(frozen=True)
class Coverage:
    """What of an INT8 graph a simulation of it has.

    Attributes:
        layers, activations: how many weights, and tensors between layers, are rounded while training.
        only_afterwards: nodes and tensors that the quantizer rounds and training knows nothing of.
        in_float: parameters of two axes or more that are not rounded (of recurrent layers, …).
    """

    layers: int
    activations: int
    only_afterwards: tuple[str, ...]
    in_float: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**vars(self), "only_afterwards": list(self.only_afterwards), "in_float": list(self.in_float)}


class Simulated(nn.Module):
    """What is trained; called as the module that it was made of, whose parameters it has.

    Args:
        graph: takes the inputs by position. names: of the inputs, in their order.
        ranges: tensor of the float ONNX graph → name of the submodule of `graph` that rounds it.
        observed_steps: calls in training mode after which the ranges stand still.
    """

    def __init__(
        self, graph: fx.GraphModule, names: Sequence[str], ranges: dict[str, str], observed_steps: int
    ) -> None:
        super().__init__()
        self.graph, self.names, self.ranges, self.left = graph, tuple(names), ranges, observed_steps

    def forward(self, *single: Tensor, **named: Tensor) -> Any:
        if self.training and self.left >= 0:
            if self.left == 0:
                for rounding in self._roundings().values():
                    rounding.observing = False
            self.left -= 1
        return self.graph(*(single or [named[name] for name in self.names]))

    def learned(self) -> dict[str, tuple[float, float]]:
        """Tensor of the float ONNX graph → the range (low, high) that it has now."""
        return {tensor: (float(one.low), float(one.high)) for tensor, one in self._roundings().items()}

    def _roundings(self) -> dict[str, ActivationRange]:
        found = {tensor: self.graph.get_submodule(name) for tensor, name in self.ranges.items()}
        return {tensor: one for tensor, one in found.items() if isinstance(one, ActivationRange)}


def simulate(
    captured: fx.GraphModule,
    rows: dict[str, Tensor],
    activations: Sequence[tuple[ActivationSite, Array]],
    weights: Sequence[WeightSite],
    observed_steps: int,
) -> tuple[Simulated, Coverage]:
    """Put the rounding of an INT8 graph into a captured module, which is changed.

    Args:
        captured: see `functional`.
        rows: name → pre-processed input (n, ...), in the order of the module's inputs.
        activations: tensors that are rounded, each with what the float ONNX graph has there for the same rows.
        weights: what is stored as integers.
        observed_steps: calls in training mode after which the ranges stand still.
    """
    missing, ranges, placed = [], dict[str, str](), dict[fx.Node, str]()
    values = _values(captured, list(rows.values()))
    for site, expected in activations:
        node = next((one for one, value in values.items() if _same(value, expected)), None)
        if node is None:
            missing.append(site.tensor)
            continue
        if node not in placed:
            placed[node] = f"range_{len(placed)}"
            _round_output(captured, node, placed[node], site)
        if not site.fixed:
            ranges[site.tensor] = placed[node]
    rounded, unseen = round_weights(captured, weights)
    captured.graph.eliminate_dead_code()
    captured.graph.lint()
    captured.recompile()
    others = [name for name, value in captured.named_parameters() if value.ndim > 1 and name not in rounded]
    in_float = tuple(name.removeprefix(PREFIX) for name in others)
    coverage = Coverage(len(rounded), len(placed), (*unseen, *missing), in_float)
    return Simulated(captured, list(rows), ranges, observed_steps), coverage


def functional(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """The graph without in-place operators and guards, with a `train` that works; parameters are the module's own."""
    module = program.run_decompositions({}).module()
    graph = module.graph
    for node in [node for node in graph.nodes if node.op == "call_module" and node.target == "_guards_fn"]:
        graph.erase_node(node)
    # torch.export's own class refuses train() and eval(), which Lightning calls.
    return fx.GraphModule(module, graph)


def _values(captured: fx.GraphModule, rows: Sequence[Tensor]) -> dict[fx.Node, Array]:
    """What each node computes, floats only, in the order of the graph."""
    recorder = _Recorder(captured)
    with torch.no_grad():
        recorder.run(*rows)
    return recorder.values


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Array] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point() and n.op not in ("get_attr", "output"):
            self.values[n] = value.numpy()
        return value


def _same(found: Array, expected: Array) -> bool:
    if found.shape != expected.shape or found.size == 0:
        return False
    return float(np.abs(found - expected).max()) <= SAME * float(np.abs(expected).max())


def _round_output(captured: fx.GraphModule, node: fx.Node, name: str, site: ActivationSite) -> None:
    captured.add_submodule(name, ActivationRange(site.low, site.high, observing=not site.fixed))
    readers = list(node.users)
    with captured.graph.inserting_after(node):
        rounded = captured.graph.call_module(name, (node,))
    for reader in readers:
        reader.replace_input_with(node, rounded)
