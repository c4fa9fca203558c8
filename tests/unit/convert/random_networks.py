"""Small random classifiers: what a user's network may consist of, in any order that fits.

A network is drawn as a plan (plain tuples, so that hypothesis can print and shrink it) and built from it with a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

Step = tuple[Any, ...]
CLASSES = 3
ACTIVATIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "leaky": nn.LeakyReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "prelu": nn.PReLU,
}


@dataclass(frozen=True)
class Plan:
    """Attributes: "image", "sequence" or "tokens"; shape of one row; steps; seed of weights and rows."""

    family: str
    shape: tuple[int, ...]
    steps: tuple[Step, ...]
    seed: int


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Concat(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], dim=1)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(width, heads, batch_first=True), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.attention(x, x, x, need_weights=False)[0])


class Recurrent(nn.Module):
    def __init__(self, kind: str, width: int, layers: int, both: bool) -> None:
        super().__init__()
        made = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[kind]
        self.cell = made(width, width, layers, batch_first=True, bidirectional=both)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x)[0]


class Head(nn.Module):
    """Mean, last, or largest over positions, then a linear layer."""

    def __init__(self, pool: str, width: int) -> None:
        super().__init__()
        self.pool, self.linear = pool, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            x = x.flatten(2).transpose(1, 2)
        pooled = {"mean": lambda: x.mean(1), "last": lambda: x[:, -1], "max": lambda: x.amax(1)}[self.pool]()
        return self.linear(pooled)


_image_steps = st.one_of(
    st.tuples(st.just("conv"), st.sampled_from([4, 6, 8]), st.sampled_from([1, 3]), st.sampled_from([1, 2])),
    st.tuples(st.just("depthwise"), st.booleans()),
    st.tuples(st.just("norm"), st.sampled_from(["batch", "group", "instance"])),
    st.tuples(st.just("act"), st.sampled_from(sorted(ACTIVATIONS))),
    st.tuples(st.just("pool"), st.sampled_from(["max", "max-ceil", "avg", "avg-padded"])),
    st.tuples(st.just("residual"), st.sampled_from(["relu", "silu"])),
    st.tuples(st.just("concat"), st.sampled_from([2, 4])),
    st.tuples(st.just("dropout")),
)
_sequence_steps = st.one_of(
    st.tuples(st.just("attention"), st.sampled_from([1, 2, 4])),
    st.tuples(st.just("recurrent"), st.sampled_from(["gru", "lstm", "rnn"]), st.sampled_from([1, 2]), st.booleans()),
    st.tuples(st.just("layer-norm")),
    st.tuples(st.just("linear"), st.sampled_from([4, 8])),
    st.tuples(st.just("act"), st.sampled_from(sorted(ACTIVATIONS))),
)


@st.composite
def plans(draw: st.DrawFn, families: tuple[str, ...] = ("image", "sequence", "tokens")) -> Plan:
    """A plan of one to five steps."""
    family = draw(st.sampled_from(families))
    if family == "image":
        shape = draw(st.tuples(st.sampled_from([1, 3]), st.sampled_from([6, 9]), st.sampled_from([6, 8])))
        steps = draw(st.lists(_image_steps, min_size=1, max_size=5))
    else:
        shape = (draw(st.sampled_from([2, 5])), *((8,) if family == "sequence" else ()))
        steps = draw(st.lists(_sequence_steps, min_size=1, max_size=4))
    pool = draw(st.sampled_from(["mean", "last", "max"]))
    return Plan(family, shape, (*steps, ("head", pool)), draw(st.integers(0, 2**16)))


def build(plan: Plan) -> nn.Module:
    """The module of a plan, its statistics as after training."""
    torch.manual_seed(plan.seed)
    layers: list[nn.Module] = [nn.Embedding(50, 8)] if plan.family == "tokens" else []
    width = plan.shape[0] if plan.family == "image" else 8
    for kind, *options in plan.steps:
        if kind == "head":
            layers.append(Head(options[0], width))
            continue
        layer, width = (_image if plan.family == "image" else _sequence)(kind, options, width)
        layers.append(layer)
    module = nn.Sequential(*layers)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return module.eval()


def rows(plan: Plan, n: int, seed: int, length: int | None = None) -> dict[str, np.ndarray]:
    """Rows for a plan; of another length than its own, where it is a sequence."""
    rng = np.random.default_rng([plan.seed, seed])
    shape = plan.shape if length is None else (length, *plan.shape[1:])
    if plan.family == "tokens":
        return {"input": rng.integers(0, 50, (n, *shape))}
    return {"input": rng.standard_normal((n, *shape)).astype(np.float32)}


def is_recurrent(plan: Plan) -> bool:
    """Whether it has a recurrent layer."""
    return any(step[0] == "recurrent" for step in plan.steps)


def _image(kind: str, options: list[Any], width: int) -> tuple[nn.Module, int]:
    if kind == "conv":
        wide, kernel, stride = options
        return nn.Conv2d(width, wide, kernel, stride, padding=kernel // 2), wide
    if kind == "depthwise":
        return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=options[0]), width
    if kind == "norm":
        groups = 2 if width % 2 == 0 else 1
        made = {
            "batch": lambda: nn.BatchNorm2d(width),
            "group": lambda: nn.GroupNorm(groups, width),
            "instance": lambda: nn.InstanceNorm2d(width, affine=True),
        }
        return made[options[0]](), width
    if kind == "act":
        return ACTIVATIONS[options[0]](), width
    if kind == "pool":
        # Padded by one, so that a map of one pixel still has a window.
        made = {
            "max": lambda: nn.MaxPool2d(2, 1, padding=1),
            "max-ceil": lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
            "avg": lambda: nn.AvgPool2d(2, 1, padding=1, count_include_pad=False),
            "avg-padded": lambda: nn.AvgPool2d(3, 2, padding=1),
        }
        return made[options[0]](), width
    if kind == "residual":
        return Residual(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), ACTIVATIONS[options[0]]())), width
    if kind == "concat":
        return Concat(nn.Conv2d(width, options[0], 1)), width + options[0]
    return nn.Dropout(0.5), width


def _sequence(kind: str, options: list[Any], width: int) -> tuple[nn.Module, int]:
    if kind == "attention":
        return Attention(width, options[0]), width
    if kind == "recurrent":
        return Recurrent(options[0], width, options[1], options[2]), width * (2 if options[2] else 1)
    if kind == "layer-norm":
        return nn.LayerNorm(width), width
    if kind == "linear":
        return nn.Linear(width, options[0]), options[0]
    return ACTIVATIONS[options[0]](), width
