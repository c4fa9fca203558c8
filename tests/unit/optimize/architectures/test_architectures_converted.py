"""Every family learns, converts to every target, and is pruned there or refused with the reason."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab import runtime
from trimtab.compress.prune import Pruned, prune
from trimtab.compress.replay import replay
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.availability import why_unavailable
from trimtab.runtime.eager import Predictor as Eager

TARGETS = [target for target in sorted(runtime.TARGETS) if target != "eager-cpu" and not why_unavailable(target)]
NAMES = ["resnet", "mobilenet", "gru", "lstm", "attention", "sinusoidal"]
PRUNED = ["resnet", "mobilenet", "attention", "sinusoidal"]


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def check_converted(model: nn.Module, family: Any, target: str, folder: Path) -> None:
    example = family.rows(4)
    module, spec = deployed(model, Preprocess()), spec_of(example, 3)
    record = convert("c0", target, module, example, spec, folder)
    # The exporter on TorchScript is the fallback: a family that needs it has code the other cannot see into.
    assert not any("because the one on torch.export failed" in note for note in record.notes)
    predictor, eager = runtime.load(target, folder, threads=1), Eager(module, spec, threads=1)
    for batch in (1, 3, 17):
        rows = family.rows(batch, seed=batch)
        given, expected = (who.predict(rows)["probabilities"] for who in (predictor, eager))
        np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.fixture(scope="session")
def pruned(families: dict[str, Any]) -> dict[str, tuple[nn.Module, Pruned]]:
    cut = {}
    for name in PRUNED:
        model = copy.deepcopy(families[name].model)
        cut[name] = model, prune(model, families[name].rows(4), forward, "l2", 0.5, 4)
    return cut


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_of_training_halve_the_loss(name: str, families: dict[str, Any]) -> None:
    losses = families[name].losses
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_answered_alone_as_among_others(name: str, families: dict[str, Any]) -> None:
    family = families[name]
    together = family.answer(5)
    assert together.shape == (5, 3)
    assert together.dtype == torch.float32
    alone = [family.model(torch.from_numpy(family.rows(5)["input"][i : i + 1])) for i in range(5)]
    torch.testing.assert_close(torch.cat(alone).detach(), together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NAMES)
def test_converted_it_answers_like_torch_at_any_batch(
    name: str, target: str, families: dict[str, Any], tmp_path: Path
) -> None:
    check_converted(families[name].model, families[name], target, tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "attention"])
def test_pruned_and_converted_it_answers_like_the_pruned_torch_model(
    name: str, target: str, families: dict[str, Any], pruned: dict[str, Any], tmp_path: Path
) -> None:
    check_converted(pruned[name][0], families[name], target, tmp_path)


@pytest.mark.parametrize("name", PRUNED)
def test_pruning_halves_the_parameters_at_least_and_keeps_the_interface(
    name: str, families: dict[str, Any], pruned: dict[str, Any]
) -> None:
    model, result = pruned[name]
    assert result.removed_share > 0.5
    assert result.after["macs"] < 0.6 * result.before["macs"]
    assert families[name].answer(3, model).shape == (3, 3)


@pytest.mark.parametrize("name", PRUNED)
def test_a_fresh_model_takes_the_cuts_and_then_the_pruned_weights(
    name: str, families: dict[str, Any], pruned: dict[str, Any]
) -> None:
    model, result = pruned[name]
    fresh = replay(families[name].build().eval(), result.history)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(families[name].answer(3, fresh), families[name].answer(3, model))


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_no_group_of_a_convolutional_family_is_left_whole(name: str, pruned: dict[str, Any]) -> None:
    assert pruned[name][1].skipped == []


@pytest.mark.parametrize("name", ["attention", "sinusoidal"])
def test_pruned_attention_loses_the_same_channels_in_every_layer_that_reads_or_writes_the_width(
    name: str, pruned: dict[str, Any]
) -> None:
    # Layer norm keeps `prune` from comparing with zeroed channels, so a wrong cut here would go unseen.
    model, result = pruned[name]
    width = [cut for cut in result.history if "feed_forward.0" not in cut.get("layer", "") or cut["side"] == "in"]
    width = [cut for cut in width if "feed_forward.2" not in cut.get("layer", "") or cut["side"] == "out"]
    assert {tuple(cut["indices"]) for cut in width} == {tuple(width[0]["indices"])}
    layers = sum(key.startswith("layer") for key, _ in model.named_children())
    # embedding, positions, last norm, head; a layer: 2 norms, query, key, value, out, both ends of the feed-forward
    assert len(width) == 4 + 8 * layers
    assert model.embedding.positions.shape == (1, 6, 8)


@pytest.mark.parametrize("name", ["attention", "sinusoidal"])
def test_pruned_attention_keeps_its_heads_and_says_so(name: str, pruned: dict[str, Any]) -> None:
    model, result = pruned[name]
    assert [layer.attention.query.weight.shape for layer in model if hasattr(layer, "attention")] == [
        (16, 8) for _ in result.skipped
    ]
    assert result.skipped
    for line in result.skipped:
        assert "attention.query: cannot be cut" in line


@pytest.mark.parametrize(("name", "layer"), [("gru", "GRU"), ("lstm", "LSTM")])
def test_a_recurrent_model_is_refused_by_pruning_and_left_as_it_was(
    name: str, layer: str, families: dict[str, Any]
) -> None:
    model = copy.deepcopy(families[name].model)
    with pytest.raises(UnsupportedError, match=f"hidden units of {layer} cannot be cut"):
        prune(model, families[name].rows(4), forward, "l1", 0.5, 4)
    torch.testing.assert_close(families[name].answer(3, model), families[name].answer(3), rtol=0, atol=0)
