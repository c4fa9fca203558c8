"""Weight sharing: what is stored is what runs, at any number of bits; the file shrinks, the inference does not slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from trimtab.compress.cluster import cluster, decode, kmeans
from trimtab.compress.graph_weights import float_weights
from trimtab.convert.graph import deployed
from trimtab.convert.onnx_format import export_onnx
from trimtab.errors import UnsupportedError
from trimtab.optimize.architectures.cnn import cnn
from trimtab.recipe.schema import Preprocess


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cnn(1, 10, widths=(16, 64))
    path = tmp_path_factory.mktemp("onnx") / "fp32.onnx"
    export_onnx(deployed(model, Preprocess(scale=1 / 16)), {"input": np.zeros((4, 1, 8, 8), np.float32)}, path)
    return path


def linear_graph(weight: np.ndarray, path: Path, *between: onnx.NodeProto) -> Path:
    """input (batch, k) @ weight, through `between`, which reads "w" and gives "ready"."""
    reads = "ready" if between else "w"
    k, n = weight.shape if not between else weight.shape[::-1]
    nodes = [*between, helper.make_node("MatMul", ["input", reads], ["probabilities"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("input", k), ("probabilities", n))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def run(path: Path, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": values})[0]


def weights_that_run(path: Path) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes for each clustered weight, made an output of the graph."""
    model = onnx.load(path)
    names = list(decode(path))
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {one.name: np.zeros([1, *one.shape[1:]], np.float32) for one in session.get_inputs()}
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_file_decodes_to_the_weights_that_run_at_any_number_of_bits(fp32: Path, tmp_path: Path, bits: int) -> None:
    facts = cluster(fp32, bits, tmp_path / "out.onnx")
    decoded, before = decode(tmp_path / "out.onnx"), float_weights(onnx.load(fp32))
    running = weights_that_run(tmp_path / "out.onnx")
    assert set(decoded) == set(facts["codebooks"])
    assert decoded
    for name, values in decoded.items():
        np.testing.assert_array_equal(values, running[name])
        assert values.shape == before[name].shape
        assert len(np.unique(values)) == facts["codebooks"][name] <= 2**bits
        assert np.abs(values - before[name]).max() <= facts["largest_change"]


@pytest.mark.parametrize("bits", [3, 4, 5, 6, 7])
def test_weights_whose_number_fills_no_byte_are_all_kept_in_order(tmp_path: Path, bits: int) -> None:
    weight = np.random.default_rng(bits).permutation(61 * 37).reshape(61, 37).astype(np.float32)
    cluster(linear_graph(weight, tmp_path / "a.onnx"), bits, tmp_path / "b.onnx")
    decoded = decode(tmp_path / "b.onnx")["w"]
    np.testing.assert_allclose(decoded, weight, atol=61 * 37 / 2**bits)
    rows = np.eye(61, dtype=np.float32)
    np.testing.assert_array_equal(run(tmp_path / "b.onnx", rows), decoded)


def test_the_file_takes_bits_of_32_of_the_weights_and_the_facts_give_its_size(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    source = linear_graph(weight, tmp_path / "a.onnx")
    for bits in (2, 3, 4, 8):
        facts = cluster(source, bits, tmp_path / "b.onnx")
        assert (facts["bytes_before"], facts["bytes_after"]) == (
            source.stat().st_size,
            (tmp_path / "b.onnx").stat().st_size,
        )
        assert 0 < facts["bytes_after"] - weight.nbytes * bits / 32 < 4 * 2**bits + 1000


def test_the_opened_session_computes_on_plain_weights_as_the_fp32_graph_does(fp32: Path, tmp_path: Path) -> None:
    cluster(fp32, 3, tmp_path / "clustered.onnx")
    operators = []
    for path in (fp32, tmp_path / "clustered.onnx"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "opened.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        operators.append(sorted(node.op_type for node in onnx.load(tmp_path / "opened.onnx").graph.node))
    assert operators[0] == operators[1]


def test_the_same_graph_gives_the_same_bytes(fp32: Path, tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        cluster(fp32, 4, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_weight_that_two_layers_share_is_stored_once_and_both_read_it(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(48, 48, bias=False)

        def forward(self, value: Tensor) -> Tensor:
            return self.body(self.body(value).relu())

    rows = np.random.default_rng(0).normal(size=(4, 48)).astype(np.float32)
    torch.manual_seed(0)
    export_onnx(deployed(Tied(), Preprocess()), {"input": rows}, tmp_path / "a.onnx")
    assert cluster(tmp_path / "a.onnx", 4, tmp_path / "b.onnx")["layers"] == 1
    assert 0 < np.abs(run(tmp_path / "b.onnx", rows) - run(tmp_path / "a.onnx", rows)).max() < 0.05


def test_a_weight_that_is_transposed_before_its_layer_is_found(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    turn = helper.make_node("Transpose", ["w"], ["ready"], perm=[1, 0])
    cluster(linear_graph(weight, tmp_path / "a.onnx", turn), 4, tmp_path / "b.onnx")
    np.testing.assert_array_equal(
        run(tmp_path / "b.onnx", np.eye(50, dtype=np.float32)), decode(tmp_path / "b.onnx")["w"].T
    )


def test_biases_and_figures_of_preprocessing_are_not_touched(tmp_path: Path) -> None:
    columns = 400
    model, rows = nn.Linear(columns, 40), np.zeros((2, columns), np.float32)
    preprocess = Preprocess(mean=np.linspace(1e3, 2e3, columns).tolist(), std=[3.0] * columns)
    export_onnx(deployed(model, preprocess), {"input": rows}, tmp_path / "a.onnx")
    cluster(tmp_path / "a.onnx", 2, tmp_path / "b.onnx")
    before, after = (
        {item.name: numpy_helper.to_array(item) for item in onnx.load(tmp_path / name).graph.initializer}
        for name in ("a.onnx", "b.onnx")
    )
    kept = [name for name in before if before[name].dtype == np.float32 and before[name].size in (40, columns)]
    assert len(kept) == 3
    for name in kept:
        np.testing.assert_array_equal(after[name], before[name])


def test_kmeans_finds_the_means_of_separate_groups_and_keeps_few_values_exactly() -> None:
    values = np.array([-1.1, -0.9, 2.0, 2.2, 7.0, 7.0, 7.3], np.float32)
    codebook, codes = kmeans(values, 3)
    np.testing.assert_allclose(codebook, [-1.0, 2.1, 7.1], rtol=1e-6)
    assert codes.tolist() == [0, 0, 1, 1, 2, 2, 2]
    few = np.array([[0.0, 1e-3], [1.0, 0.0]], np.float32)  # evenly spaced centroids would join the first two
    codebook, codes = kmeans(few, 4)
    np.testing.assert_array_equal(codebook[codes], few)


def test_each_weight_gets_its_nearest_centroid_and_each_centroid_is_the_mean_of_its_weights() -> None:
    values = np.random.default_rng(0).standard_t(3, size=5000).astype(np.float32)
    codebook, codes = kmeans(values, 16)
    assert (np.abs(values - codebook[codes]) <= np.abs(values[:, None] - codebook).min(axis=1) + 1e-6).all()
    means = np.array([values[codes == code].mean() for code in range(len(codebook))])
    np.testing.assert_allclose(codebook, means, atol=1e-4)


def test_layers_that_are_too_small_are_refused_with_the_largest(tmp_path: Path) -> None:
    source = linear_graph(np.ones((5, 7), np.float32), tmp_path / "a.onnx")
    with pytest.raises(UnsupportedError, match="share 16 values among: the largest, w, has 35"):
        cluster(source, 4, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    weight = np.ones((40, 40), np.float32)
    weight[3, 4] = np.nan
    with pytest.raises(UnsupportedError, match="1 of 1600 weights are NaN") as caught:
        cluster(linear_graph(weight, tmp_path / "a.onnx"), 4, tmp_path / "b.onnx")
    assert caught.value.where == "initializer w"


def test_a_graph_whose_weights_lie_in_a_side_file_is_clustered(fp32: Path, tmp_path: Path) -> None:
    model = onnx.load(fp32)
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="a.onnx.data", size_threshold=1024)
    facts = cluster(tmp_path / "a.onnx", 4, tmp_path / "b.onnx")
    assert facts["bytes_before"] > 40_000
    assert facts["bytes_after"] < 0.3 * facts["bytes_before"]
    assert run(tmp_path / "b.onnx", np.ones((2, 1, 8, 8), np.float32)).shape == (2, 10)
