"""PT2E post-training static quantization of a captured program, for the formats whose quantizer annotates its graph.

Given observers, run on the calibration rows, rewritten with the ranges that they saw:
https://docs.pytorch.org/ao/stable/pt2e_quantization/index.html. It imports torch and torchao alone, so that a
worker can import it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

BATCH = 32
SMALLEST_SCALE = 2**-12  # that of both quantizers for static quantization
# torch's histogram takes the ends at which the squared error of rounding and clipping is least.
OBSERVERS = {"minmax": MinMaxObserver, "mse": HistogramObserver}
_ATEN = torch.ops.aten
_WEIGHTED = {
    *(_ATEN.conv1d, _ATEN.conv2d, _ATEN.conv3d, _ATEN.linear),
    *(_ATEN.conv_transpose1d, _ATEN.conv_transpose2d, _ATEN.conv_transpose3d),
}


class UnfiniteError(Exception):
    """An activation that is NaN or infinite for a calibration row; its text names the operation that gives it."""


def observed_by(config: Any, calibration: str) -> Any:
    """A quantizer's static configuration with the ranges of activations by one of `OBSERVERS`."""
    observer = OBSERVERS[calibration].with_args(eps=SMALLEST_SCALE)
    activation = replace(config.input_activation, observer_or_fake_quant_ctr=observer)
    return replace(config, input_activation=activation, output_activation=activation)


def quantized(program: nn.Module, quantizer: Any, rows: Sequence[Tensor], folded: bool) -> fx.GraphModule:
    """The program with its ranges in it.

    Args:
        program: as `ExportedProgram.module()` gives it. rows: each input (n, ...), in order.
        folded: whether weights are kept as integers, or rounded where they are read.

    Raises:
        UnfiniteError: an activation has no range.
    """
    with torch.no_grad():
        observed = prepare_pt2e(program, quantizer)
        for node in observed.graph.nodes:
            if node.op == "call_module":
                observed.get_submodule(node.target).register_forward_pre_hook(partial(_watch, node.args[0].name))
        for start in range(0, len(rows[0]), BATCH):
            observed(*(values[start : start + BATCH] for values in rows))
        graph: fx.GraphModule = convert_pt2e(observed, fold_quantize=folded)
    return graph


def _watch(place: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Observers do not say where a range is missing, some pass over it."""
    if not torch.isfinite(inputs[0]).all():
        raise UnfiniteError(place)


def layers(graph: fx.GraphModule) -> tuple[list[int], list[int]]:
    """Number of weights of each convolution and linear layer in INT8, and of each of the others."""
    done: list[int] = []
    left: list[int] = []
    for node in graph.graph.nodes:
        if getattr(node.target, "overloadpacket", None) in _WEIGHTED:
            weight = node.args[1]
            integer = weight.op == "call_function"  # it is dequantized for the layer, which is computed in integers
            while weight.op == "call_function":
                weight = weight.args[0]
            (done if integer else left).append(attrgetter(weight.target)(graph).numel())
    return done, left
