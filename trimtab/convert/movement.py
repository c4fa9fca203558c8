"""Shortcuts that only move data, written as convolutions: what INT8 runtimes compute instead of copy.

A residual shortcut without weights ("option A" of He et al. 2015, "Deep Residual Learning for Image Recognition",
arXiv:1512.03385) takes every second pixel and pads the channels with zeros. Runtimes slice and pad in floating point,
so between INT8 layers the tensor is converted there and back. The same function is a 1x1 convolution with that stride
whose weights are ones and zeros: exact in floating point and in INT8 (one scale a channel, and its largest weight is
1), fused with the sum that follows. `make bench-shortcuts` measures what it gives.

Worked example: x[:, :, ::2, ::2] padded with 8 channels on either side, 16 channels in, is a convolution of stride 2
with weight (32, 16, 1, 1), where weight[8 + i, i] = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.overrides import TorchFunctionMode

from trimtab.convert.graph import Positional, example_tensors, outputs_of
from trimtab.convert.tracing import exported, quiet
from trimtab.free_axes import FIXED, Axes

aten = torch.ops.aten
PADS = (aten.pad.default, aten.constant_pad_nd.default)
SLICE_DEFAULTS: tuple[Any, ...] = (0, None, None, 1)  # axis, start, end, stride
SPACE = (2, 3)


@dataclass(frozen=True)
class Shortcut:
    """One slice-and-pad: its nodes, the input it takes, strides (height, width), channels padded before and after."""

    nodes: tuple[Node, ...]
    source: Node
    strides: tuple[int, int]
    before: int
    after: int


def without_shortcut_copies(
    module: nn.Module, example: Mapping[str, NDArray[Any]], axes: Axes = FIXED
) -> tuple[nn.Module, list[str]]:
    """The module with its slice-and-pad shortcuts as convolutions; itself where it has none.

    Args:
        module: deployed module in eval mode.
        example: inputs name → array (n, ...), in the order of the specification.
        axes: of inputs that stay dynamic.

    Returns:
        A module that takes the same inputs and gives the same answers (where a value is infinite or NaN, it reaches
        all channels of its pixel instead of its own), and notes for the reader.
    """
    if not _pads_channels(module, example):
        return module, []
    try:
        graph = exported(module, example, axes=axes).module()
    except Exception:
        # What torch.export cannot see into stays as it is: the converters say whether and why they refuse it.
        return module, []
    assert isinstance(graph, GraphModule)
    found = list(shortcuts(graph))
    if not found:
        return module, []
    for number, shortcut in enumerate(found):
        _replace(graph, shortcut, f"shortcut_{number}")
    graph.graph.eliminate_dead_code()
    graph.recompile()
    rewritten = Rewritten(graph, list(example), outputs_of(module))
    return rewritten, [f"{len(found)} shortcuts that slice and pad are 1x1 convolutions"]


class Rewritten(nn.Module):
    """A captured graph that is called as the module it was captured from.

    Args:
        graph: takes the inputs by position. names: of the inputs, in that order. answers: what its outputs are called.
    """

    def __init__(self, graph: nn.Module, names: Sequence[str], answers: Sequence[str]) -> None:
        super().__init__()
        self.output, self.answers = answers[0], tuple(answers)
        # Not "graph": a traced module has an attribute of that name.
        self.captured, self.names = graph, tuple(names)

    def train(self, mode: bool = True) -> Rewritten:
        """A captured graph has one mode only, the one it was captured in: evaluation."""
        if mode:
            raise ValueError("a captured graph cannot be trained")
        return self

    def forward(self, *single: Tensor, **named: Tensor) -> Tensor | tuple[Tensor, ...]:
        """As the original: one input by position, or several by keyword."""
        answer: Tensor | tuple[Tensor, ...] = self.captured(*(single or (named[name] for name in self.names)))
        return answer


def shortcuts(graph: GraphModule) -> list[Shortcut]:
    """The slice-and-pad shortcuts of a captured graph."""
    return [found for node in graph.graph.nodes if (found := _shortcut(node)) is not None]


def _shortcut(pad: Node) -> Shortcut | None:
    """The shortcut that ends with this node: zeros on the channels of an image, with strided slices before."""
    if pad.op != "call_function" or pad.target not in PADS or not _is_image(pad):
        return None
    source, sizes, *rest = pad.args
    constant = [*rest, *pad.kwargs.values()]
    if any(value not in ("constant", None, 0, 0.0) for value in constant) or not isinstance(source, Node):
        return None
    if len(sizes) != 6 or any(sizes[:4]) or min(sizes[4:]) < 0:  # type: ignore[arg-type, index]
        return None
    nodes, strides = [pad], {2: 1, 3: 1}
    while (step := _step(source)) is not None and len(source.users) == 1:
        axis, stride = step
        if axis in SPACE:
            strides[axis] *= stride
        elif stride != 1:
            break
        nodes.append(source)
        source = source.args[0]
        assert isinstance(source, Node)
    if max(strides.values()) == 1:
        return None
    return Shortcut(tuple(nodes), source, (strides[2], strides[3]), int(sizes[4]), int(sizes[5]))  # type: ignore


def _step(node: Node) -> tuple[int, int] | None:
    """Axis and stride of a slice that takes every stride-th element from the first to the last."""
    if node.op != "call_function" or node.target != aten.slice.Tensor or not _is_image(node):
        return None
    given: list[Any] = [*node.args[1:], *SLICE_DEFAULTS[len(node.args) - 1 :]]
    axis, start, end, stride = given
    whole = end is None or (isinstance(end, int) and end >= node.args[0].meta["val"].shape[axis])  # type: ignore
    if start not in (0, None) or not whole:
        return None
    return int(axis) % 4, int(stride)


def _is_image(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.ndim == 4 and value.dtype == torch.float32


def _replace(graph: GraphModule, shortcut: Shortcut, name: str) -> None:
    channels = int(shortcut.source.meta["val"].shape[1])
    graph.register_buffer(name, _ones(channels, shortcut.before, shortcut.after))
    last = shortcut.nodes[0]
    with graph.graph.inserting_before(last):
        weight = graph.graph.get_attr(name)
        moved = graph.graph.call_function(aten.conv2d.default, (shortcut.source, weight, None, list(shortcut.strides)))
    moved.meta["val"] = last.meta["val"]
    last.replace_all_uses_with(moved)


def _ones(channels: int, before: int, after: int) -> Tensor:
    """Weight float32 (before + channels + after, channels, 1, 1): channel i of the input goes to before + i."""
    weight = torch.zeros(before + channels + after, channels, 1, 1)
    index = torch.arange(channels)
    weight[before + index, index] = 1.0
    return weight


class _Watch(TorchFunctionMode):
    """Notes whether anything padded the channels of an image; cheaper than capturing the module to find out."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        pads = getattr(func, "__name__", "") in ("pad", "constant_pad_nd", "_pad")
        self.seen |= pads and len(args) > 1 and len(args[1]) == 6
        return func(*args, **(kwargs or {}))


def _pads_channels(module: nn.Module, example: Mapping[str, NDArray[Any]]) -> bool:
    with quiet(), torch.no_grad(), _Watch() as watch:
        try:
            Positional(module, list(example)).eval()(*example_tensors(example))
        except Exception:
            return False  # the converters run it too and say what is wrong
    return watch.seen
