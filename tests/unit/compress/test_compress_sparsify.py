"""Unstructured pruning: the smallest weights go, zeros outlast training, the packed file holds the same."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from trimtab.compress.distil import distil
from trimtab.compress.pack_sparse import decode, pack_sparse
from trimtab.compress.sparsify import sparsify, zeros_kept
from trimtab.convert.graph import deployed
from trimtab.convert.onnx_format import export_onnx
from trimtab.data import from_arrays
from trimtab.errors import UnsupportedError
from trimtab.optimize.architectures.cnn import cnn
from trimtab.recipe.schema import Distil, Preprocess, Train


def forward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return model(inputs["input"])


def two_layers() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0, -2.0], [3.0, -4.0]])
        model[2].weight[:] = torch.tensor([[0.1, 0.2], [-0.3, 40.0]])
    return model


def zeros(model: nn.Module) -> dict[str, Tensor]:
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return {name: layer.weight.detach() == 0 for name, layer in layers}


def test_the_smallest_weights_go_of_all_layers_or_of_each() -> None:
    glob, layer = two_layers(), two_layers()
    assert sparsify(glob, 0.5, "global") == {"sparsity": 0.5, "zeros": 4, "weights": 8}
    # Scores of the first: 1/30, 4/29, 9/25, 1; of the second three of nearly 0, and 1.
    assert glob[0].weight.tolist() == [[0, -2], [3, -4]]
    assert glob[2].weight.tolist() == [[0, 0], [0, 40]]
    sparsify(layer, 0.5, "layer")
    assert layer[0].weight.tolist() == [[0, 0], [3, -4]]
    torch.testing.assert_close(layer[2].weight.detach(), torch.tensor([[0, 0], [-0.3, 40]]))


def test_a_layer_of_small_weights_is_not_emptied_for_that() -> None:
    model = two_layers()
    with torch.no_grad():
        model[2].weight *= 1e-6
    sparsify(model, 0.75, "global")
    assert [int((layer.weight != 0).sum()) for layer in (model[0], model[2])] == [1, 1]


def test_a_layer_that_would_lose_all_weights_is_named_and_nothing_changes() -> None:
    model = two_layers()
    with pytest.raises(UnsupportedError, match="no weight is left in 0, 2"):
        sparsify(model, 0.9, "layer")
    assert model[0].weight.tolist() == [[1, -2], [3, -4]]
    with pytest.raises(UnsupportedError, match="no convolution or linear layer"):
        sparsify(nn.Sequential(nn.LayerNorm(4)), 0.5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 0.9), min_size=2, max_size=2).map(sorted), st.sampled_from(["layer", "global"]))
def test_zeros_are_of_the_asked_number_and_all_kept_at_a_larger_sparsity(sparsities: list[float], scope: str) -> None:
    original = cnn(1, 3, widths=(8, 8), size=8)
    found = []
    for sparsity in sparsities:
        model = copy.deepcopy(original)
        facts = sparsify(model, sparsity, scope)
        found.append(zeros(model))
        assert facts["zeros"] == sum(int(mask.sum()) for mask in found[-1].values())
        layers = 1 if scope == "global" else len(found[-1])
        assert abs(facts["zeros"] - sparsity * facts["weights"]) <= 0.5 * layers
    assert all(bool((more | ~less).all()) for less, more in zip(found[0].values(), found[1].values(), strict=True))


def test_a_sparsity_of_zero_is_the_identity() -> None:
    model = cnn(1, 3, widths=(8, 8))
    before = copy.deepcopy(model.state_dict())
    sparsify(model, 0.0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_zeros_outlast_distillation_and_the_other_weights_learn() -> None:
    torch.manual_seed(0)
    teacher = cnn(1, 3, widths=(8, 8), size=8)
    student = copy.deepcopy(teacher)
    sparsify(student, 0.6)
    before, masks = copy.deepcopy(student.state_dict()), zeros(student)
    rows = {"input": np.random.default_rng(0).normal(size=(48, 1, 8, 8)).astype(np.float32)}
    split = from_arrays("train", rows, np.arange(48) % 3)
    with zeros_kept(student):
        distil(student, teacher, split, split, Distil(epochs=2, threads=1, lr=0.01), forward=forward, seed=0)
    assert all(torch.equal(masks[name], mask) for name, mask in zeros(student).items())
    assert not torch.equal(before["0.weight"], student.state_dict()["0.weight"])
    assert not student[0].weight._backward_hooks


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.9), ("adamw", 0), ("rmsprop", 0), ("adagrad", 0)])
def test_zeros_stay_under_every_kind_of_step(optimizer: str, momentum: float) -> None:
    assert optimizer in Train.model_fields["optimizer"].annotation.__args__
    model = two_layers()
    sparsify(model, 0.5)
    masks = zeros(model)
    options = {"momentum": momentum} if momentum else {}
    kinds = {"sgd": "SGD", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
    steps = getattr(torch.optim, kinds[optimizer])(model.parameters(), lr=0.1, weight_decay=0.1, **options)
    with zeros_kept(model):
        for _ in range(3):
            steps.zero_grad()
            torch.autograd.backward(model(torch.ones(4, 2)).square().sum())
            steps.step()
    assert all(torch.equal(masks[name], mask) for name, mask in zeros(model).items())


def linear_graph(weight: np.ndarray, path: Path) -> Path:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in zip(("input", "probabilities"), weight.shape, strict=True)
    ]
    nodes = [helper.make_node("MatMul", ["input", "w"], ["probabilities"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def run(path: Path, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": values})[0]


@settings(max_examples=25, deadline=None)
@given(k=st.integers(40, 80), n=st.integers(40, 80), sparsity=st.floats(0.4, 1.0), seed=st.integers(0, 9))
def test_the_packed_file_decodes_to_the_same_weights_in_the_runtime(
    tmp_path_factory: pytest.TempPathFactory, k: int, n: int, sparsity: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    generator = np.random.default_rng(seed)
    weight = np.where(generator.random((k, n)) < sparsity, 0, generator.normal(size=(k, n))).astype(np.float32)
    source = linear_graph(weight, folder / "a.onnx")
    facts = pack_sparse(source, folder / "b.onnx") if weight.nbytes * sparsity > 8000 else None
    if facts is None:
        return
    assert facts["sparsity"] == pytest.approx(float((weight == 0).mean()))
    np.testing.assert_array_equal(decode(folder / "b.onnx")["w"], weight)
    np.testing.assert_array_equal(run(folder / "b.onnx", np.eye(k, dtype=np.float32)), weight)


def test_size_falls_with_the_sparsity_and_the_facts_give_it(tmp_path: Path) -> None:
    weight, sizes = np.random.default_rng(0).normal(size=(120, 90)).astype(np.float32), []
    for sparsity in (0.3, 0.5, 0.8, 0.95, 0.99):
        thinned = np.where(np.abs(weight) < np.quantile(np.abs(weight), sparsity), np.float32(0), weight)
        facts = pack_sparse(linear_graph(thinned, tmp_path / "a.onnx"), tmp_path / "b.onnx")
        assert facts["bytes_after"] == (tmp_path / "b.onnx").stat().st_size < facts["bytes_before"]
        # Values, a bit a weight, a count for 64; a table of 64 x 64 bytes and the nodes come on top.
        expected = weight.nbytes * (1 - sparsity + 1 / 32 + 1 / 64)
        assert 4096 < facts["bytes_after"] - expected < 4096 + 2000
        sizes.append(facts["bytes_after"])
    assert sizes == sorted(sizes, reverse=True)


def test_folding_batch_norms_leaves_zeros_zero(tmp_path: Path) -> None:
    model = cnn(1, 10, widths=(16, 32)).eval()
    facts = sparsify(model, 0.8)
    export_onnx(deployed(model, Preprocess()), {"input": np.zeros((4, 1, 8, 8), np.float32)}, tmp_path / "a.onnx")
    packed = pack_sparse(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert packed["sparsity"] == facts["sparsity"]
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(tmp_path / "b.onnx").graph.node}


def test_the_opened_session_computes_on_plain_weights(tmp_path: Path) -> None:
    weight = np.eye(100, dtype=np.float32)
    pack_sparse(linear_graph(weight, tmp_path / "a.onnx"), tmp_path / "b.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(tmp_path / "b.onnx"), options, providers=["CPUExecutionProvider"])
    assert [node.op_type for node in onnx.load(tmp_path / "opened.onnx").graph.node] == ["MatMul"]


def test_dense_weights_and_such_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    weight = np.ones((64, 64), np.float32)
    with pytest.raises(UnsupportedError, match=r"no layer has zeros enough.*0\.0% of all"):
        pack_sparse(linear_graph(weight, tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()
    weight[2, 3] = np.inf
    with pytest.raises(UnsupportedError, match="1 of 4096 weights are NaN or infinite"):
        pack_sparse(linear_graph(weight, tmp_path / "a.onnx"), tmp_path / "b.onnx")
