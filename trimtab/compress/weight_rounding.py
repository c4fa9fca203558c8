"""Rounding of weights in a captured module: each layer that an INT8 graph stores as integers, batch norm folded in."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx

from trimtab.compress.fake_quantize import folded_bias, folded_weight, rounded_weight
from trimtab.compress.int8_sites import WeightSite

Array = np.ndarray
ATEN = torch.ops.aten


class Layer(NamedTuple):
    """How an operator takes its weight: place among the arguments, axis of output channels, place of the bias."""

    weight: int
    channels: int
    bias: int | None


CONVOLUTION, TRANSPOSED, PRODUCT = Layer(1, 0, 2), Layer(1, 1, 2), Layer(1, 1, None)
LAYERS: Mapping[Any, Layer] = {
    ATEN.conv1d.default: CONVOLUTION,
    ATEN.conv2d.default: CONVOLUTION,
    ATEN.conv3d.default: CONVOLUTION,
    ATEN.linear.default: CONVOLUTION,
    ATEN.conv_transpose1d.default: TRANSPOSED,
    ATEN.conv_transpose2d.input: TRANSPOSED,
    ATEN.conv_transpose3d.input: TRANSPOSED,
    ATEN.matmul.default: PRODUCT,
    ATEN.mm.default: PRODUCT,
    ATEN.addmm.default: Layer(2, 1, None),
}
NORM = ATEN._native_batch_norm_legit_no_training.default
SAME = 1e-4  # relative to the largest weight: the exporter folds batch norm in its own order


def round_weights(captured: fx.GraphModule, sites: Sequence[WeightSite]) -> tuple[list[str], list[str]]:
    """Round the weight of every layer that has one of the sites, in place.

    Returns:
        Names of the parameters that are rounded, each once; nodes of the sites that no layer was found for.
    """
    rounded: dict[str, None] = {}
    unseen = set(range(len(sites)))
    for node in list(captured.graph.nodes):
        source = _weight_of(captured, node)
        if source is None:
            continue
        norm = _norm_after(node)
        for folding in [norm, None] if norm is not None else [None]:
            values = _effective(captured, node, source, folding)
            matches = {place: axis for place, site in enumerate(sites) for axis in _axes(values, site)}
            if matches:
                _rewrite(captured.graph, node, source, folding, next(iter(matches.values())))
                rounded[str(source.target)] = None
                unseen -= set(matches)
                break
    return list(rounded), [sites[place].node for place in sorted(unseen)]


def _weight_of(captured: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The node of a layer's weight, if that is a parameter as it is."""
    layer = LAYERS.get(node.target)
    source = node.args[layer.weight] if layer is not None and len(node.args) > layer.weight else None
    if not isinstance(source, fx.Node) or source.op != "get_attr" or _value(captured, source).ndim < 2:
        return None
    return source


def _norm_after(node: fx.Node) -> fx.Node | None:
    """The batch norm that alone reads a convolution or linear layer."""
    users = list(node.users)
    found = len(users) == 1 and users[0].target is NORM and LAYERS[node.target].bias is not None
    return users[0] if found else None


def _value(captured: fx.GraphModule, node: Any) -> Any:
    """The tensor of a get_attr node; anything else as it is."""
    if not isinstance(node, fx.Node):
        return node
    return operator.attrgetter(str(node.target))(captured) if node.op == "get_attr" else None


@torch.no_grad()
def _effective(captured: fx.GraphModule, node: fx.Node, source: fx.Node, norm: fx.Node | None) -> Array:
    """The weight as the float ONNX graph has it; empty if the norm's channels are not those of the layer."""
    weight: Tensor = _value(captured, source)
    if norm is None:
        return weight.numpy()
    gamma, variance, eps = (_value(captured, norm.args[place]) for place in (1, 4, 6))
    channels = LAYERS[node.target].channels
    if variance is None or len(variance) != weight.shape[channels]:
        return np.empty(0)
    return folded_weight(weight, gamma, variance, eps, channels).numpy()


def _axes(values: Array, site: WeightSite) -> list[int | None]:
    """The axis of scales along `values`, in a list; [] if they are not the site's, as they are or transposed."""
    if _same(values, site.values):
        return [site.axis]
    if values.ndim == 2 and _same(values.T, site.values):
        return [None if site.axis is None else 1 - site.axis]
    return []


def _same(one: Array, other: Array) -> bool:
    if one.shape != other.shape or one.size == 0:
        return False
    return float(np.abs(one - other).max()) <= SAME * float(np.abs(other).max())


def _rewrite(graph: fx.Graph, node: fx.Node, source: fx.Node, norm: fx.Node | None, axis: int | None) -> None:
    layer, args = LAYERS[node.target], list(node.args)
    with graph.inserting_before(node):
        weight = source
        if norm is not None:
            _, gamma, beta, mean, variance, _, eps = norm.args
            assert layer.bias is not None
            args += [None] * (layer.bias + 1 - len(args))
            weight = graph.call_function(folded_weight, (source, gamma, variance, eps, layer.channels))
            args[layer.bias] = graph.call_function(folded_bias, (args[layer.bias], gamma, beta, mean, variance, eps))
        args[layer.weight] = graph.call_function(rounded_weight, (weight, axis))
    node.args = tuple(args)
    if norm is not None:
        for user in list(norm.users):
            user.replace_all_uses_with(node)  # the first of three results, the others are for its gradient
