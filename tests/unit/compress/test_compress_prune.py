"""Pruning: the interface never changes, the right channels go, size never rises with the ratio, replay is exact."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import torch_pruning as tp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.compress.groups import channels_kept
from trimtab.compress.importance import channel_norms
from trimtab.compress.prune import Pruned, prune
from trimtab.compress.replay import replay
from trimtab.data import Split, from_arrays
from trimtab.errors import ModelError, UnsupportedError
from trimtab.optimize.architectures.cnn import cnn
from trimtab.optimize.architectures.mlp import mlp
from trimtab.recipe.schema import Norm

NORMS: tuple[Norm, ...] = ("l1", "l2", "linf")
CRITERIA: tuple[Norm, ...] = (*NORMS, "taylor", "bn_scale", "random")


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def rows(*shape: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


def answer(model: nn.Module, inputs: dict[str, np.ndarray]) -> Tensor:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(inputs["input"]))


def labelled(inputs: dict[str, np.ndarray], classes: int = 5) -> Split:
    return from_arrays("train", inputs, np.arange(len(inputs["input"])) % classes)


def macs_by_hand(model: nn.Module, inputs: dict[str, np.ndarray]) -> int:
    """Multiply-accumulates of the convolutions and linear layers for one row, from their outputs' sizes."""
    macs: list[int] = []

    def add(layer: nn.Module, _: object, output: Tensor) -> None:
        kernel = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else layer.in_features
        macs.append(output[0].numel() * kernel)

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    answer(model, {name: value[:1] for name, value in inputs.items()})
    for hook in hooks:
        hook.remove()
    return sum(macs)


class OneChannelHead(nn.Module):
    """Convolutions 3→16→64→1, each with batch norm and ReLU; the head has one output channel and groups 1."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *[nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()],
            *[nn.Conv2d(16, 64, 2, stride=2), nn.BatchNorm2d(64), nn.ReLU()],
        )
        self.head = nn.Sequential(nn.Conv2d(64, 1, 3, padding=1), nn.BatchNorm2d(1), nn.ReLU())

    def forward(self, value: Tensor) -> Tensor:
        return self.head(self.body(value)).flatten(1)


class Recurrent(nn.Module):
    """LSTM 8→16 and layer norm, nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.norm = nn.LSTM(8, 16, batch_first=True), nn.LayerNorm(16)

    def forward(self, value: Tensor) -> Tensor:
        return self.norm(self.lstm(value)[0][:, -1])


class PaddedShortcut(nn.Module):
    """A shortcut that gets its additional channels as zeros on either side (ResNet "option A")."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.inner = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.outer = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 5)

    def forward(self, value: Tensor) -> Tensor:
        stem = self.stem(value).relu()
        padded = F.pad(stem[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
        return self.head((self.outer(self.inner(stem).relu()) + padded).relu().mean((2, 3)))


class Grouped(nn.Module):
    """Group norm, depthwise and grouped convolution, a residual sum, and a bare parameter of channel size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 32, 3, padding=1), nn.GroupNorm(4, 32)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.grouped = nn.Conv2d(32, 32, 1, groups=2)
        self.offset = nn.Parameter(torch.ones(1, 32, 1, 1))
        self.head = nn.Linear(32, 5)

    def forward(self, value: Tensor) -> Tensor:
        stem = self.norm(self.stem(value)).relu()
        return self.head((self.grouped(self.depthwise(stem)) + stem + self.offset).mean((2, 3)))


class OptionA(nn.Module):
    """A shortcut that gets its additional channels as zeros behind the others (He et al. 2016, option A)."""

    def __init__(self, pad: bool) -> None:
        super().__init__()
        self.pad = pad
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.inner = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.outer = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 5)

    def forward(self, value: Tensor) -> Tensor:
        stem = self.stem(value).relu()
        short = stem[:, :, ::2, ::2]
        wide = F.pad(short, (0, 0, 0, 0, 0, 16)) if self.pad else torch.cat([short, torch.zeros_like(short)], 1)
        return self.head((self.outer(self.inner(stem).relu()) + wide).relu().mean((2, 3)))


class Concatenated(nn.Module):
    """Two branches side by side, one batch norm over both."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 24, 3, padding=1)
        self.norm, self.mix, self.head = nn.BatchNorm2d(40), nn.Conv2d(40, 16, 1), nn.Linear(16, 5)

    def forward(self, value: Tensor) -> Tensor:
        both = torch.cat([self.left(value), self.right(value)], 1)
        return self.head(self.mix(self.norm(both).relu()).relu().mean((2, 3)))


class Separable(nn.Module):
    """Depthwise convolutions, one of them with two filters a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16)
        self.norm, self.pointwise = nn.BatchNorm2d(16), nn.Conv2d(16, 32, 1)
        self.multiplied, self.head = nn.Conv2d(32, 64, 3, groups=32), nn.Linear(64, 5)

    def forward(self, value: Tensor) -> Tensor:
        value = self.norm(self.depthwise(self.stem(value))).relu()
        return self.head(self.multiplied(self.pointwise(value).relu()).relu().mean((2, 3)))


class Attention(nn.Module):
    """Self-attention of 4 heads and a feed-forward part, each in a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attend = nn.Linear(6, 32), nn.MultiheadAttention(32, 4, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 5)

    def forward(self, value: Tensor) -> Tensor:
        value = self.embed(value)
        value = value + self.attend(value, value, value, need_weights=False)[0]
        return self.head((value + self.feed(value)).mean(1))


class FixedHeads(nn.Module):
    """Attention whose code names the number and size of its heads."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.project = nn.Linear(6, 32), nn.Linear(32, 96), nn.Linear(32, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, value: Tensor) -> Tensor:
        embedded = self.embed(value)
        q, k, v = self.qkv(embedded).reshape(len(value), -1, 3, 4, 8).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((embedded + self.project(attended)).mean(1))


class Tied(nn.Module):
    """Two of the hidden layers share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = nn.Linear(6, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.two.weight = self.one.weight
        self.last, self.head = nn.Linear(32, 24), nn.Linear(24, 5)

    def forward(self, value: Tensor) -> Tensor:
        return self.head(self.last(self.two(self.one(self.first(value).relu()).relu()).relu()).relu())


class TwiceUsed(nn.Module):
    """One hidden layer that is passed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Linear(6, 32), nn.Linear(32, 32), nn.Linear(32, 5)

    def forward(self, value: Tensor) -> Tensor:
        return self.head(self.again(self.again(self.first(value).relu()).relu()).relu())


class TiedEmbedding(nn.Module):
    """An embedding whose table is the output layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle = nn.Embedding(12, 32), nn.Linear(32, 32)
        self.out = nn.Linear(32, 12, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, value: Tensor) -> Tensor:
        return self.out(self.middle(self.embed(value).mean(1)).relu())


class Gated(nn.Module):
    """A GRU between linear layers."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.before, self.cell = nn.Linear(6, 32), kind(32, 16, batch_first=True)
        self.after, self.head = nn.Linear(16, 32), nn.Linear(32, 5)

    def forward(self, value: Tensor) -> Tensor:
        return self.head(self.after(self.cell(self.before(value))[0][:, -1]).relu())


@pytest.mark.parametrize("norm", NORMS)
def test_channels_whose_weights_are_zero_go_first_and_the_answers_stay(norm: Norm) -> None:
    model = cnn(1, 10, widths=(16, 32)).eval()
    keep = {0: [1, 2, 3, 5, 8, 11, 13, 15], 4: list(range(1, 32, 2))}
    with torch.no_grad():
        for place, living in keep.items():
            dead = [i for i in range(model[place].out_channels) if i not in living]
            for tensor in (model[place].weight, model[place + 1].weight, model[place + 1].bias):
                tensor[dead] = 0
    # The weights that read a dead channel count towards its norm: silence them too.
    with torch.no_grad():
        model[4].weight[:, [i for i in range(16) if i not in keep[0]]] = 0
        model[10].weight.view(10, 32, 4)[:, [i for i in range(32) if i not in keep[4]]] = 0
    inputs = rows(4, 1, 8, 8)
    before = answer(model, inputs)
    prune(model, inputs, forward, norm, 0.5, 8)
    assert (model[0].out_channels, model[4].out_channels, model[10].in_features) == (8, 16, 64)
    torch.testing.assert_close(answer(model, inputs), before, rtol=1e-4, atol=1e-5)


@settings(max_examples=24, deadline=None)
@given(
    widths=st.lists(st.integers(2, 24), min_size=1, max_size=3),
    norm=st.sampled_from(CRITERIA),
    ratios=st.lists(st.floats(0.05, 0.95), min_size=2, max_size=2).map(sorted),
    round_to=st.sampled_from([1, 4, 8]),
    images=st.booleans(),
)
def test_interface_stays_and_size_never_rises_with_the_ratio(
    widths: list[int], norm: Norm, ratios: list[float], round_to: int, images: bool
) -> None:
    original = cnn(2, 5, widths, size=8) if images else mlp(128, 5, widths)
    inputs = rows(3, 2, 8, 8)
    sizes = [sum(parameter.numel() for parameter in original.parameters())]
    for ratio in ratios:
        model = copy.deepcopy(original)
        try:
            result = prune(model, inputs, forward, norm, ratio, round_to, data=labelled(inputs))
        except UnsupportedError:
            sizes.append(sizes[0])
            continue
        sizes.append(result.after["parameters"])
        assert answer(model, inputs).shape == (3, 5)
        assert sum(parameter.numel() for parameter in model.parameters()) == result.after["parameters"]
        assert result.after["macs"] == macs_by_hand(model, inputs) < result.before["macs"]
    assert sizes == sorted(sizes, reverse=True)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.floats(0, 0.999), st.floats(0, 0.999), st.integers(1, 32))
def test_channels_kept_is_a_multiple_and_falls_with_the_ratio(
    channels: int, one: float, other: float, round_to: int
) -> None:
    low, high = sorted((one, other))
    kept = channels_kept(channels, high, round_to)
    assert 1 <= kept <= channels_kept(channels, low, round_to) <= channels
    assert kept % round_to == 0 or kept == channels


@pytest.mark.parametrize(("channels", "ratio", "kept"), [(64, 0.5, 32), (64, 0.25, 48), (16, 0.75, 8), (12, 0.5, 8)])
def test_channels_kept_by_hand(channels: int, ratio: float, kept: int) -> None:
    assert channels_kept(channels, ratio, 8) == kept


@pytest.mark.parametrize("norm", [norm for norm in CRITERIA if norm != "bn_scale"])
@pytest.mark.parametrize(
    ("build", "shape"),
    [
        *[(lambda: cnn(1, 10), (2, 1, 8, 8)), (lambda: mlp(20, 3), (2, 20)), (Grouped, (2, 3, 8, 8))],
        *[(Concatenated, (2, 3, 8, 8)), (Separable, (2, 3, 8, 8)), (Attention, (2, 7, 6)), (TwiceUsed, (2, 6))],
    ],
)
def test_replay_of_the_json_history_gives_the_same_model(
    build: type[nn.Module], shape: tuple[int, ...], norm: Norm
) -> None:
    model = build()
    fresh, example = copy.deepcopy(model), rows(*shape)
    history = json.loads(json.dumps(prune(model, example, forward, norm, 0.5, 8, data=labelled(example, 3)).history))
    replay(fresh, history)
    inputs = rows(5, *shape[1:], seed=1)
    assert torch.equal(answer(model, inputs), answer(fresh, inputs))
    assert [value.shape for value in fresh.state_dict().values()] == [v.shape for v in model.state_dict().values()]


@pytest.mark.parametrize(
    ("build", "shape"), [(lambda: cnn(1, 10), (2, 1, 8, 8)), (Concatenated, (2, 3, 8, 8)), (Separable, (2, 3, 8, 8))]
)
def test_replay_of_a_pruning_by_batch_norm_scale_gives_the_same_model(
    build: type[nn.Module], shape: tuple[int, ...]
) -> None:
    model, example = build(), rows(*shape)
    fresh = copy.deepcopy(model)
    replay(fresh, json.loads(json.dumps(prune(model, example, forward, "bn_scale", 0.5, 4).history)))
    assert torch.equal(answer(model, example), answer(fresh, example))


def test_a_history_of_another_model_is_refused() -> None:
    model = cnn(1, 10)
    history = prune(model, rows(2, 1, 8, 8), forward, "l1", 0.5, 8).history
    with pytest.raises(ModelError, match="cut 1 of 6 does not fit"):
        replay(cnn(1, 10, widths=(8, 8)), history)
    with pytest.raises(ModelError, match="does not fit this model"):
        replay(nn.Sequential(), history)


def test_one_channel_head_is_kept_and_its_input_shrinks() -> None:
    model = OneChannelHead()
    prune(model, rows(2, 3, 16, 16), forward, "l1", 0.5, 8)
    head = model.head[0]
    assert (head.out_channels, head.in_channels, head.groups) == (1, 32, 1)
    assert [module.out_channels for module in model.body if isinstance(module, nn.Conv2d)] == [8, 32]


def test_a_recurrent_model_is_refused_with_the_count_and_stays_as_it_was() -> None:
    model = Recurrent()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UnsupportedError, match=r"0 of 1696 parameters removed.*1 LSTM.*1 LayerNorm"):
        prune(model, rows(1, 5, 8), forward, "l1", 0.5, 8)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_layers_with_nothing_to_spare_are_named() -> None:
    with pytest.raises(UnsupportedError, match="round_to is 8") as caught:
        prune(mlp(4, 2, hidden=(8,)), rows(2, 4), forward, "l1", 0.5, 8)
    assert "0 of 58 parameters removed" in caught.value.what


def test_a_group_whose_indices_are_shifted_is_left_whole_and_reported() -> None:
    model = PaddedShortcut()
    result = prune(model, rows(2, 3, 8, 8), forward, "l2", 0.5, 8)
    assert (model.stem.out_channels, model.outer.out_channels) == (16, 32)
    assert model.inner.out_channels == 16
    assert [entry.split(":")[0] for entry in result.skipped] == ["stem"]


def test_grouped_layers_keep_equal_blocks() -> None:
    model = Grouped()
    result = prune(model, rows(2, 3, 8, 8), forward, "l2", 0.5, 8)
    assert (model.stem.out_channels, model.depthwise.groups, model.grouped.in_channels) == (16, 16, 16)
    assert model.offset.shape == (1, 16, 1, 1)
    assert result.removed_share > 0.5


def test_layers_coupled_to_the_output_are_left_whole() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner, self.second = nn.Linear(6, 16), nn.Linear(16, 32), nn.Linear(32, 16)

        def forward(self, value: Tensor) -> Tensor:
            first = self.first(value)
            return first + self.second(self.inner(first).relu())

    model = Residual()
    result = prune(model, rows(2, 6), forward, "l1", 0.5, 8)
    assert (model.first.out_features, model.inner.out_features, model.second.out_features) == (16, 16, 16)
    assert result.skipped == ["first: coupled to the output"]


@pytest.mark.parametrize("norm", CRITERIA)
def test_ratio_zero_changes_nothing(norm: Norm) -> None:
    model = cnn(1, 10)
    before = copy.deepcopy(model.state_dict())
    result = prune(model, rows(2, 1, 8, 8), forward, norm, 0.0, 8)
    assert result == Pruned([], result.before, result.before, [])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_frozen_layers_are_pruned_and_stay_frozen_and_the_mode_is_kept() -> None:
    model = cnn(1, 10).train()
    model[0].weight.requires_grad_(False)
    prune(model, rows(2, 1, 8, 8), forward, "l1", 0.5, 8)
    assert model[0].out_channels == 16
    assert not model[0].weight.requires_grad
    assert model[4].weight.requires_grad
    assert model.training


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_norms_rank_channels_as_torch_pruning_does(norm: Norm, power: int) -> None:
    model = cnn(1, 10)
    graph = tp.DependencyGraph().build_dependency(model, torch.zeros(2, 1, 8, 8))
    group = graph.get_pruning_group(model[4], tp.prune_conv_out_channels, list(range(64)))
    theirs = tp.importance.GroupMagnitudeImportance(p=power, normalizer=None)(group)
    assert torch.equal(channel_norms(group, 64, norm).argsort(), theirs.double().argsort())


def test_linf_is_the_largest_coupled_weight() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -4.0], [0.5, 0.5], [0.0, 0.0]]))
        model[1].weight.copy_(torch.tensor([[2.0, -3.0, 0.0], [0.0, 1.0, 0.25]]))
    graph = tp.DependencyGraph().build_dependency(model, torch.zeros(1, 2))
    group = graph.get_pruning_group(model[0], tp.prune_linear_out_channels, [0, 1, 2])
    assert channel_norms(group, 3, "linf").tolist() == [4.0, 3.0, 0.25]


@pytest.mark.parametrize("norm", ["l1", "taylor", "random"])
@pytest.mark.parametrize("pad", [True, False])
def test_a_shortcut_padded_with_zeros_behind_is_cut_alike_or_left_whole(pad: bool, norm: Norm) -> None:
    model, inputs = OptionA(pad), rows(4, 3, 8, 8)
    result = prune(model, inputs, forward, norm, 0.5, 8, data=labelled(inputs))
    assert answer(model, inputs).shape == (4, 5)
    assert model.inner.out_channels == 16
    if model.stem.out_channels == 16:
        assert any(entry.startswith("stem: ") for entry in result.skipped)


def test_concatenated_branches_shrink_each_by_itself_and_the_shared_norm_by_both() -> None:
    model = Concatenated()
    prune(model, rows(2, 3, 8, 8), forward, "l1", 0.5, 4)
    assert (model.left.out_channels, model.right.out_channels) == (8, 12)
    assert (model.norm.num_features, model.mix.in_channels) == (20, 20)


def test_depthwise_layers_follow_their_input_and_those_with_more_filters_are_named() -> None:
    model = Separable()
    result = prune(model, rows(2, 3, 8, 8), forward, "l1", 0.5, 4)
    assert (model.stem.out_channels, model.depthwise.groups, model.pointwise.in_channels) == (8, 8, 8)
    assert model.multiplied.groups == 32
    assert result.skipped == ["pointwise: 32 channels in 32 equal blocks are kept: round_to is 4"]


def test_attention_heads_stay_and_each_loses_as_much() -> None:
    model = Attention()
    result = prune(model, rows(2, 7, 6), forward, "l1", 0.5, 8)
    assert (model.attend.num_heads, model.attend.head_dim, model.attend.embed_dim) == (4, 4, 16)
    assert (model.embed.out_features, model.feed[0].in_features, model.head.in_features) == (16, 16, 16)
    assert result.skipped == []


def test_heads_whose_size_is_written_in_the_code_are_left_whole() -> None:
    model = FixedHeads()
    result = prune(model, rows(2, 7, 6), forward, "l1", 0.5, 8)
    assert (model.qkv.out_features, model.embed.out_features) == (96, 16)
    assert [entry.split(":")[0] for entry in result.skipped] == ["qkv"]


def test_attention_is_counted_whether_or_not_pytorch_fuses_it() -> None:
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    projections, feed = 4 * 7 * 16 * 16, 2 * 7 * 16 * 32
    attention = 2 * 7 * 7 * 16
    wrapped = nn.Sequential(model, nn.Flatten())
    fused = torch.backends.mha.get_fastpath_enabled()
    result = prune(wrapped, rows(2, 7, 16), forward, "l1", 0.0, 8)
    assert result.before["macs"] == projections + feed + attention
    assert torch.backends.mha.get_fastpath_enabled() == fused


def test_layers_that_share_a_weight_are_left_whole_and_stay_tied() -> None:
    model = Tied()
    result = prune(model, rows(2, 6), forward, "l1", 0.5, 8)
    assert model.one.weight is model.two.weight
    assert model.last.out_features == 8
    reason = "layers share a weight that would be cut: one.weight and two.weight"
    assert result.skipped == [f"{name}: {reason}" for name in ("first", "one", "two")]
    assert result.after["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_an_embedding_tied_to_the_output_is_refused_by_name() -> None:
    inputs = {"input": np.random.default_rng(0).integers(0, 12, (2, 7))}
    with pytest.raises(UnsupportedError, match=r"middle: layers share .*: embed\.weight and out\.weight"):
        prune(TiedEmbedding(), inputs, forward, "l1", 0.5, 8)


def test_a_layer_that_is_passed_twice_is_cut_on_both_sides_alike() -> None:
    model = TwiceUsed()
    prune(model, rows(2, 6), forward, "l1", 0.5, 8)
    assert (model.first.out_features, model.again.in_features, model.again.out_features) == (16, 16, 16)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_around_a_recurrent_layer_the_others_shrink_and_its_units_are_named(kind: type[nn.RNNBase]) -> None:
    model = Gated(kind)
    result = prune(model, rows(2, 7, 6), forward, "l1", 0.5, 8)
    assert (model.cell.hidden_size, model.after.out_features) == (16, 16)
    assert f"cell: hidden units of {kind.__name__} cannot be cut" in result.skipped


BREAKING = {
    "grouped": (Grouped, (3, 3, 8, 8)),
    "padded either side": (PaddedShortcut, (3, 3, 8, 8)),
    "padded behind": (lambda: OptionA(True), (3, 3, 8, 8)),
    "concatenated": (Concatenated, (3, 3, 8, 8)),
    "depthwise": (Separable, (3, 3, 8, 8)),
    "attention": (Attention, (3, 7, 6)),
    "fixed heads": (FixedHeads, (3, 7, 6)),
    "tied": (Tied, (3, 6)),
    "twice used": (TwiceUsed, (3, 6)),
    "lstm": (lambda: Gated(nn.LSTM), (3, 7, 6)),
    "gru": (lambda: Gated(nn.GRU), (3, 7, 6)),
}


@pytest.mark.parametrize("norm", CRITERIA)
@pytest.mark.parametrize("kind", BREAKING)
def test_hard_structures_shrink_or_are_refused_and_size_never_rises_with_the_ratio(kind: str, norm: Norm) -> None:
    build, shape = BREAKING[kind]
    original, inputs = build(), rows(*shape)
    sizes = [sum(parameter.numel() for parameter in original.parameters())]
    for ratio in (0.25, 0.5, 0.8):
        model = copy.deepcopy(original)
        has_scale = any(isinstance(module, nn.BatchNorm2d) for module in original.modules())
        if norm == "bn_scale" and not has_scale:
            with pytest.raises(UnsupportedError, match="no batch norm"):
                prune(model, inputs, forward, norm, ratio, 4)
            continue
        result = prune(model, inputs, forward, norm, ratio, 4, data=labelled(inputs), seed=1)
        sizes.append(result.after["parameters"])
        assert answer(model, inputs).shape == (3, 5)
        assert sum(parameter.numel() for parameter in model.parameters()) == sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
