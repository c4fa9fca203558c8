"""What the families are built of, which arguments they refuse, and that the page about them is true."""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trimtab.optimize.architectures.attention import attention, sinusoids
from trimtab.optimize.architectures.mobilenet import mobilenet
from trimtab.optimize.architectures.resnet import resnet
from trimtab.optimize.architectures.rnn import rnn
from trimtab.recipe.entry import UserCode

PAGE = (Path(__file__).parents[4] / "docs" / "architectures.md").read_text(encoding="utf-8")
FAMILIES = ["mlp", "cnn", "resnet", "mobilenet", "rnn", "attention"]
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", PAGE, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recipe_on_the_page_builds_the_model(family: str, tmp_path: Path) -> None:
    snippet = re.search(r"```yaml\n(.*?)```", SECTIONS[family], flags=re.DOTALL)
    assert snippet is not None
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: demo\ndata: mine:split\n" + snippet[1], encoding="utf-8")
    code = UserCode(recipe)
    kwargs = code.recipe.model.kwargs
    size = kwargs.get("size", 9)
    shape = (kwargs["channels"], size, size) if "channels" in kwargs else (kwargs.get("steps", 5), kwargs["features"])
    rows = torch.zeros(2, *(shape if family != "mlp" else shape[1:]))
    with torch.no_grad():
        assert code.build_model().eval()(rows).shape == (2, kwargs["classes"])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_names_every_argument_with_its_default(family: str) -> None:
    function = getattr(importlib.import_module(f"trimtab.optimize.architectures.{family}"), family)
    real = [
        (name, "required" if argument.default is inspect.Parameter.empty else f"`{argument.default!r}`")
        for name, argument in inspect.signature(function).parameters.items()
    ]
    assert re.findall(r"^\| `(\w+)` \| (.*?) \|", SECTIONS[family], flags=re.MULTILINE) == real


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: resnet(0, 3), "channels is 0: give a whole number of 1 or more"),
        (lambda: resnet(1, 3, widths=()), "widths is ()"),
        (lambda: resnet(1, 3, widths=(16, 0)), "widths is (16, 0)"),
        (lambda: resnet(1, 3, blocks=True), "blocks is True"),
        (lambda: mobilenet(1, 3, widths=16), "widths is 16"),
        (lambda: mobilenet(1, 3, expansion=1.5), "expansion is 1.5"),
        (lambda: mobilenet(1, 3, dropout=1.0), "dropout is 1.0: give a probability"),
        (lambda: rnn(4, 3, cell="rnn"), "cell is 'rnn': give one of gru, lstm"),
        (lambda: rnn(4, 3, state="max"), "state is 'max': give one of last, mean"),
        (lambda: rnn(4, 3, dropout="0.1"), "dropout is '0.1'"),
        (lambda: rnn(4, 3, hidden=-1), "hidden is -1"),
        (lambda: attention(4, 3, steps=0), "steps is 0"),
        (lambda: attention(4, 3, 6, width=30, heads=4), "width is 30: give a multiple of heads, which is 4"),
        (lambda: attention(4, 3, 6, positions="rotary"), "positions is 'rotary': give one of learned, sinusoidal"),
    ],
)
def test_an_argument_that_is_not_allowed_is_named_with_what_is(build: Callable[[], nn.Module], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        build()


def test_resnet_has_the_papers_depth_and_a_projection_only_where_the_shape_changes() -> None:
    model = resnet(3, 10, blocks=3)
    convolutions = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    projections = [name for name in convolutions if "shortcut" in name]
    assert len(convolutions) - len(projections) + 1 == 20
    assert projections == ["stage2.0.shortcut.0", "stage3.0.shortcut.0"]


@pytest.mark.parametrize("build", [resnet, mobilenet])
def test_images_of_any_size_are_taken_and_each_stage_but_the_first_halves_them(build: Callable[..., Any]) -> None:
    model = build(1, 3, widths=(4, 8, 8), blocks=1).eval()
    sizes = []
    for name in ("stem", "stage1", "stage2", "stage3"):
        model.get_submodule(name).register_forward_hook(lambda _, __, answer: sizes.append(tuple(answer.shape[2:])))
    assert model(torch.zeros(2, 1, 9, 5)).shape == (2, 3)
    assert sizes == [(9, 5), (9, 5), (5, 3), (3, 2)]
    assert model(torch.zeros(1, 1, 1, 1)).shape == (1, 3)


def test_mobilenet_projects_without_activation_and_adds_the_input_only_where_the_shape_stays() -> None:
    model = mobilenet(1, 3, widths=(8, 16), blocks=2).eval()
    block, changed = model.stage2[1], model.stage2[0]
    for module in (block, changed):
        nn.init.zeros_(module.project[1].weight)
        nn.init.constant_(module.project[1].bias, -1.0)
    value = torch.rand(2, 16, 4, 4)
    torch.testing.assert_close(block(value), value - 1)
    torch.testing.assert_close(changed(torch.rand(2, 8, 4, 4)), torch.full((2, 16, 2, 2), -1.0))
    assert block.depthwise[0].groups == block.depthwise[0].out_channels == 64


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_rnn_reads_the_last_state_or_the_mean_of_all(cell: Any) -> None:
    last = rnn(4, 3, hidden=8, cell=cell).eval()
    mean = rnn(4, 3, hidden=8, cell=cell, state="mean").eval()
    mean.load_state_dict(last.state_dict())
    value = torch.randn(2, 5, 4)
    states, end = last.recurrent(value)
    end = end[0] if cell == "lstm" else end
    torch.testing.assert_close(last(value), last.head(end[-1]))
    torch.testing.assert_close(mean(value), last.head(states.mean(1)))


def test_sinusoids_are_those_of_the_paper_also_at_an_odd_width() -> None:
    table = sinusoids(steps=5, width=7)
    for position in range(5):
        for channel in range(7):
            angle = position / 10000 ** (2 * (channel // 2) / 7)
            expected = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
            assert table[position, channel].item() == pytest.approx(expected, abs=1e-5)


def test_training_leaves_sinusoidal_positions_and_moves_learned_ones(families: dict[str, Any]) -> None:
    fixed, learned = (families[name].model.embedding.positions for name in ("sinusoidal", "attention"))
    torch.testing.assert_close(fixed[0], sinusoids(6, 16), rtol=0, atol=0)
    assert learned.requires_grad
    assert learned.std() > 0.02  # the standard deviation they start with


def test_attention_knows_the_order_of_the_steps_and_refuses_another_number(families: dict[str, Any]) -> None:
    model, value = families["attention"].model, torch.from_numpy(families["attention"].rows(3)["input"])
    assert (model(value) - model(value.flip(1))).abs().max() > 1e-3
    with pytest.raises(RuntimeError, match="size of tensor"):
        model(value[:, :5])


def test_self_attention_is_that_of_torch_with_the_same_weights() -> None:
    torch.manual_seed(0)
    ours = attention(4, 3, 6, width=16, heads=4).layer1.attention
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in parts]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in parts]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    value = torch.randn(2, 6, 16)
    torch.testing.assert_close(ours(value), theirs(value, value, value)[0], rtol=1e-4, atol=1e-5)
