"""Shortening: the block that matters least goes first, files round-trip, and it composes with pruning."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab.compress.blocks import residual_blocks
from trimtab.compress.prune import prune
from trimtab.compress.replay import Dropped, History, replay
from trimtab.compress.shorten import ranked, shorten
from trimtab.compress.weights import load_candidate, save_candidate
from trimtab.errors import ModelError, UnsupportedError
from trimtab.optimize.architectures.mlp import mlp
from trimtab.weights import load_weights


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def rows(*shape: int) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def answer(model: nn.Module, inputs: dict[str, np.ndarray]) -> Tensor:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(inputs["input"]))


class Block(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)); the shortcut is a convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *[nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)],
            *[nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after)],
        )
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride)

    def forward(self, value: Tensor) -> Tensor:
        return torch.relu_(self.body(value) + self.shortcut(value))


class Residual(nn.Module):
    """Two stages of three blocks, 16 and 32 channels; the first block of the second cannot be dropped."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.one = nn.Sequential(*[Block(16, 16) for _ in range(3)])
        self.two = nn.Sequential(Block(16, 32, 2), Block(32, 32), Block(32, 32))
        self.head = nn.Linear(32, 5)

    def forward(self, value: Tensor) -> Tensor:
        return self.head(self.two(self.one(self.stem(value).relu())).mean((2, 3)))


class Feed(nn.Module):
    """x + mlp(norm(x)), the feed-forward half of a transformer's layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, value: Tensor) -> Tensor:
        return value + self.mlp(self.norm(value))


class Stacked(nn.Module):
    """Four feed-forward layers between an embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.layers = nn.Linear(6, 16), nn.ModuleList(Feed(16) for _ in range(4))
        self.head = nn.Linear(16, 5)

    def forward(self, value: Tensor) -> Tensor:
        value = self.embed(value)
        for layer in self.layers:
            value = layer(value)
        return self.head(value)


IMAGES, VECTORS = rows(12, 1, 8, 8), rows(12, 6)
MODELS = [(Residual, IMAGES), (Stacked, VECTORS)]


def silenced(model: Stacked, *places: int) -> Stacked:
    """The model with layers that add nothing at the given places."""
    for place in places:
        nn.init.zeros_(model.layers[place].mlp[2].weight)
        nn.init.zeros_(model.layers[place].mlp[2].bias)
    return model


def test_the_smallest_parts_with_a_path_around_their_layers_are_the_blocks() -> None:
    tensors = {name: torch.from_numpy(value[:2]) for name, value in IMAGES.items()}
    assert residual_blocks(Residual(), tensors, forward) == ["one.0", "one.1", "one.2", "two.1", "two.2"]
    tensors = {name: torch.from_numpy(value[:2]) for name, value in VECTORS.items()}
    assert residual_blocks(Stacked(), tensors, forward) == [f"layers.{i}" for i in range(4)]


def test_layers_that_add_nothing_go_first_and_the_answers_stay() -> None:
    model = silenced(Stacked(), 1, 3)
    before = answer(model, VECTORS)
    result = shorten(model, VECTORS, forward, 2)
    assert result.dropped == ["layers.1", "layers.3"]
    assert result.history == [{"block": "layers.1"}, {"block": "layers.3"}]
    assert result.divergence == pytest.approx([0, 0], abs=1e-9)
    assert torch.equal(answer(model, VECTORS), before)
    assert isinstance(model.layers[1], Dropped)


def test_the_block_of_least_divergence_goes_by_trying_each() -> None:
    model = Residual().eval()
    before = answer(model, IMAGES).double().log_softmax(1)
    found = {}
    for name in ("one.0", "one.1", "one.2", "two.1", "two.2"):
        trial = copy.deepcopy(model)
        trial.set_submodule(name, nn.Identity())
        after = answer(trial, IMAGES).double().log_softmax(1)
        found[name] = float((before.exp() * (before - after)).sum(1).mean())
    result = shorten(model, IMAGES, forward, 1)
    assert result.dropped == [min(found, key=found.__getitem__)]
    assert result.divergence[0] == pytest.approx(min(found.values()), rel=1e-6)


@pytest.mark.parametrize(("build", "inputs"), MODELS)
def test_counts_are_those_of_what_is_left_and_fall_with_each_block(
    build: type[nn.Module], inputs: dict[str, np.ndarray]
) -> None:
    sizes = []
    for blocks in range(4):
        model = build()
        result = shorten(model, inputs, forward, blocks)
        assert result.after["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert answer(model, inputs).shape == (12, 5)
        assert len(result.dropped) == len(set(result.dropped)) == len(result.divergence) == blocks
        json.dumps(result.to_json())
        sizes.append((result.after["parameters"], result.after["macs"]))
    assert sizes == sorted(set(sizes), reverse=True)


def test_no_blocks_asked_for_changes_nothing() -> None:
    model = Stacked()
    before = answer(model, VECTORS)
    result = shorten(model, VECTORS, forward, 0)
    assert (result.history, result.before, result.removed_share) == ([], result.after, 0)
    assert torch.equal(answer(model, VECTORS), before)


def test_the_mode_and_what_is_frozen_are_kept() -> None:
    model = Residual().train()
    model.stem.weight.requires_grad_(False)
    shorten(model, IMAGES, forward, 1)
    assert model.training
    assert not model.stem.weight.requires_grad
    assert model.head.weight.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_more_blocks_than_there_are_is_refused_with_their_number_and_nothing_changes() -> None:
    model = Stacked()
    before = answer(model, VECTORS)
    with pytest.raises(UnsupportedError, match="5 blocks cannot be dropped: this model has 4 that can") as caught:
        shorten(model, VECTORS, forward, 5)
    assert "4 or fewer" in caught.value.fix
    assert torch.equal(answer(model, VECTORS), before)


def test_a_model_without_blocks_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedError, match="no block keeps its input's shape"):
        shorten(mlp(6, 3), VECTORS, forward, 1)
    plain = nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6)), nn.Linear(6, 3))
    with pytest.raises(UnsupportedError, match=r"path around its layers \(0\)"):
        shorten(plain, VECTORS, forward, 1)


def test_a_model_that_cannot_run_is_named() -> None:
    with pytest.raises(ModelError, match="cannot be traced for its blocks"):
        shorten(Stacked(), rows(4, 7), forward, 1)


def test_a_gate_is_no_block_but_the_block_that_holds_it_is() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weigh = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8), nn.Sigmoid())

        def forward(self, value: Tensor) -> Tensor:
            return value * self.weigh(value)

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.gate = nn.Linear(8, 8), Gate()

        def forward(self, value: Tensor) -> Tensor:
            return value + self.gate(self.layer(value))

    model = nn.Sequential(nn.Linear(6, 8), Gated(), nn.Linear(8, 3))
    assert shorten(model, VECTORS, forward, 1).dropped == ["1"]


def test_blocks_that_are_shared_or_called_twice_or_named_twice_are_no_candidates() -> None:
    class Recurring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.again, self.once, self.twin = Feed(6), Feed(6), Feed(6)
            self.other = self.twin
            self.head = nn.Linear(6, 3)

        def forward(self, value: Tensor) -> Tensor:
            return self.head(self.twin(self.once(self.again(self.again(value)))))

    assert shorten(Recurring(), VECTORS, forward, 1).dropped == ["once"]


def test_encoder_layers_are_dropped_though_they_are_called_with_masks() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.embed, self.encoder, self.head = nn.Linear(6, 16), nn.TransformerEncoder(layer, 3), nn.Linear(16, 5)

        def forward(self, value: Tensor) -> Tensor:
            return self.head(self.encoder(self.embed(value)).mean(1))

    model, inputs = Encoder(), rows(4, 7, 6)
    result = shorten(model, inputs, forward, 2)
    # PyTorch's encoder reads settings off its first layer, so that one has to stay.
    assert sorted(result.dropped) == ["encoder.layers.1", "encoder.layers.2"]
    assert answer(model, inputs).shape == (4, 5)
    with pytest.raises(UnsupportedError, match="3 blocks cannot be dropped: this model has 2 that can"):
        shorten(Encoder(), inputs, forward, 3)


@pytest.mark.parametrize(("build", "inputs"), MODELS)
@pytest.mark.parametrize("order", ["shorten", "shorten, prune", "prune, shorten", "shorten, prune, shorten"])
def test_shortened_and_pruned_in_any_order_comes_back_bit_by_bit(
    tmp_path: Path, build: type[nn.Module], inputs: dict[str, np.ndarray], order: str
) -> None:
    model = build()
    history: History = []
    for step in order.split(", "):
        if step == "shorten":
            history += shorten(model, inputs, forward, 1).history
        else:
            history += prune(model, inputs, forward, "l1", 0.5, 4).history
    save_candidate(model, history, tmp_path)
    loaded = load_candidate(build, tmp_path)
    assert torch.equal(answer(loaded, inputs), answer(model, inputs))
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())
    assert sum(isinstance(module, Dropped) for module in loaded.modules()) == order.count("shorten")


def test_the_weights_of_a_dropped_block_are_gone_from_the_file(tmp_path: Path) -> None:
    model = Stacked()
    result = shorten(model, VECTORS, forward, 1)
    save_candidate(model, result.history, tmp_path)
    with pytest.raises(ModelError, match=f"missing: {result.dropped[0]}"):
        load_weights(Stacked(), tmp_path / "weights.safetensors")


@pytest.mark.parametrize("name", ["layers.9", "nothing.here"])
def test_a_history_that_drops_a_block_the_model_has_not_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="cut 1 of 1 does not fit") as caught:
        replay(Stacked(), [{"block": name}])
    assert caught.value.where == name


def test_named_blocks_go_and_the_others_stay() -> None:
    model = Stacked()
    result = shorten(model, VECTORS, forward, ["layers.2", "layers.0"])
    assert result.dropped == ["layers.2", "layers.0"]
    assert [isinstance(layer, Dropped) for layer in model.layers] == [True, False, True, False]
    assert len(result.divergence) == 2


@pytest.mark.parametrize("names", [["layers.2", "layers.9"], ["head"], ["layers.1", "layers.1"], ["layers.1.mlp"]])
def test_a_name_that_is_no_block_is_refused_and_nothing_is_dropped(names: list[str]) -> None:
    model = Stacked()
    with pytest.raises(UnsupportedError, match=f"block '{names[-1]}'"):
        shorten(model, VECTORS, forward, names)
    assert not any(isinstance(module, Dropped) for module in model.modules())


def test_ranking_has_every_block_once_and_agrees_with_the_first_drop() -> None:
    model = silenced(Stacked(), 2)
    before = copy.deepcopy(model.state_dict())
    ranking = ranked(model, VECTORS, forward)
    assert ranking[0] == ("layers.2", pytest.approx(0, abs=1e-12))
    assert sorted(name for name, _ in ranking) == [f"layers.{i}" for i in range(4)]
    assert [distance for _, distance in ranking] == sorted(distance for _, distance in ranking)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    second = shorten(copy.deepcopy(model), VECTORS, forward, [ranking[1][0]])
    assert second.divergence == [pytest.approx(ranking[1][1])]
