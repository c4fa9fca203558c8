"""What a user's models become on each target, and which of them are refused, with what message."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from trimtab import runtime
from trimtab.compress.cluster import cluster
from trimtab.compress.graph_weights import float_weights
from trimtab.compress.half import half
from trimtab.compress.pack_sparse import pack_sparse
from trimtab.compress.quantize import quantize
from trimtab.convert import carries, convert, onnx_format, probing
from trimtab.convert.graph import deployed, spec_of
from trimtab.convert.onnx_format import export_onnx
from trimtab.errors import ConversionError, UnsupportedError
from trimtab.recipe.schema import Preprocess, Quantize
from trimtab.runtime.availability import why_unavailable
from trimtab.runtime.eager import Predictor as Eager
from trimtab.runtime.onnxruntime_cpu import Predictor, open_session
from trimtab.runtime.openvino_cpu import read_model

TARGETS = [target for target in sorted(runtime.TARGETS) if target != "eager-cpu" and not why_unavailable(target)]
PLAIN = Preprocess()


def floats(n: int, *shape: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)}


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)]
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), *head)


class Linear(nn.Module):
    """Base of the odd models below: logits = linear(input)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class BranchOnValue(Linear):
    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:  # the line a user must find
            return self.linear(x)
        return -self.linear(x)


class BranchOnBatch(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.shape[0] > 3 else -self.linear(x)


class FixedBatch(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + torch.zeros(int(x.shape[0]), 3)


class NumberFromValue(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * float(x.max())


class ItemFromValue(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * x.max().item()


class BranchOnFixedSize(Linear):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 4
        return self.linear(x) if x.shape[1] > 3 else x


class LoopOverRows(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.linear(row) for row in x])


class TwoInputs(Linear):
    """The mask is read only when the constructor says so."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.masked = masked

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return self.linear(features * mask) if self.masked else self.linear(features)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 4)
        self.linear = nn.Linear(4, 3)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        kept = keep.float().unsqueeze(-1)
        return self.linear((self.embedding(tokens) * kept).sum(1) / kept.sum(1).clamp(min=1))


@pytest.mark.parametrize("target", TARGETS)
def test_a_converted_model_answers_like_torch_at_any_batch_and_its_record_is_complete(target: str, tmp_path: Path):
    example = floats(4, 1, 6, 6)
    module, spec = deployed(cnn(), Preprocess(scale=0.5, mean=[0.1], std=[2.0])), spec_of(example, 3)
    record = convert("c0", target, module, example, spec, tmp_path)
    predictor, eager = runtime.load(target, tmp_path, threads=1), Eager(module, spec, threads=1)
    for batch in (1, 2, 3, 4, 17, 101):
        rows = floats(batch, 1, 6, 6, seed=batch)
        np.testing.assert_allclose(
            predictor.predict(rows)["probabilities"], eager.predict(rows)["probabilities"], atol=1e-5
        )
    assert json.loads((tmp_path / "spec.json").read_text()) == spec
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert set(record.files) == {path.relative_to(tmp_path).as_posix() for path in written}
    assert record.size_bytes == sum(path.stat().st_size for path in written if path.name != "spec.json")
    assert (record.candidate, record.target, record.precision) == ("c0", target, "fp32")
    assert record.notes
    site_packages = str(Path(torch.__file__).parents[1]).encode()
    for path in written:  # nothing shipped names files of the machine that made it
        held = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert site_packages not in held
        assert Path(__file__).name.encode() not in held


FROZEN = [
    (BranchOnValue, "if x.mean() > 0"),
    (BranchOnBatch, "if x.shape[0] > 3"),
    (FixedBatch, "int(x.shape[0])"),
    (LoopOverRows, "for row in x"),
    (NumberFromValue, "float(x.max())"),
    (ItemFromValue, "x.max().item()"),
]


KEEP_ITEMS = ("onnxruntime-cpu", "torch-export-cpu")  # a number taken from a tensor is an operation of the graph


@pytest.mark.parametrize(
    ("target", "model", "line"),
    [
        (target, *case)
        for target in TARGETS
        for case in FROZEN
        if target != "torchscript-cpu" and not (target in KEEP_ITEMS and case[0] is ItemFromValue)
    ],
)
def test_code_that_decides_by_values_or_batch_is_refused_with_its_source_line(
    target: str, model: Callable[[], nn.Module], line: str, tmp_path: Path
):
    example = floats(4, 4)
    with pytest.raises(ConversionError) as caught:
        convert("c0", target, deployed(model(), PLAIN), example, spec_of(example, 3), tmp_path)
    assert Path(__file__).name in caught.value.where
    assert line in caught.value.where


@pytest.mark.parametrize("target", KEEP_ITEMS)
def test_a_number_taken_from_a_tensor_stays_in_the_graph(target: str, tmp_path: Path):
    example = floats(4, 4)
    module, spec = deployed(ItemFromValue(), PLAIN), spec_of(example, 3)
    convert("c0", target, module, example, spec, tmp_path)
    rows = {"input": -5 * floats(6, 4, seed=1)["input"]}
    given = runtime.load(target, tmp_path, threads=1).predict(rows)["probabilities"]
    np.testing.assert_allclose(given, Eager(module, spec, threads=1).predict(rows)["probabilities"], atol=1e-5)


class BeyondScript(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * max((1.0, -1.0), key=lambda sign: sign * float(x.mean()))


@pytest.mark.parametrize("model", [BranchOnValue, NumberFromValue, BranchOnBatch, LoopOverRows])
def test_torchscript_is_scripted_where_a_trace_would_freeze_a_decision(model: Callable[[], nn.Module], tmp_path: Path):
    example = floats(4, 4)
    module, spec = deployed(model(), Preprocess(scale=2)), spec_of(example, 3)
    record = convert("c0", "torchscript-cpu", module, example, spec, tmp_path)
    assert "torch.jit.script" in record.notes[0]
    predictor, eager = runtime.load("torchscript-cpu", tmp_path, threads=1), Eager(module, spec, 1)
    for rows in ({"input": abs(floats(6, 4)["input"])}, {"input": -abs(floats(2, 4)["input"])}):
        given, expected = predictor.predict(rows)["probabilities"], eager.predict(rows)["probabilities"]
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_what_torchscript_can_neither_trace_nor_script_is_refused_with_its_source_line(tmp_path: Path):
    example = floats(4, 4)
    with pytest.raises(ConversionError, match=r"decides by .* torch\.jit\.script raised") as caught:
        convert("c0", "torchscript-cpu", deployed(BeyondScript(), PLAIN), example, spec_of(example, 3), tmp_path)
    assert "key=lambda sign" in caught.value.where


@pytest.mark.parametrize("target", TARGETS)
def test_one_example_row_does_not_freeze_the_batch_and_a_check_of_a_fixed_size_is_no_reason_to_refuse(
    target: str, tmp_path: Path
):
    example = floats(1, 4)
    convert("c0", target, deployed(BranchOnFixedSize(), PLAIN), example, spec_of(example, 3), tmp_path)
    assert runtime.load(target, tmp_path, threads=1).predict(floats(5, 4))["probabilities"].shape == (5, 3)


@pytest.mark.parametrize("target", TARGETS)
def test_an_input_that_is_not_read_stays_in_the_signature_and_is_named(target: str, tmp_path: Path):
    example = {"features": floats(4, 4)["input"], "mask": np.ones((4, 4), np.float32)}
    module, spec = deployed(TwoInputs(masked=False), PLAIN), spec_of(example, 3)
    record = convert("c0", target, module, example, spec, tmp_path)
    rows = {"features": floats(3, 4)["input"], "mask": np.eye(3, 4, dtype=np.float32)}
    given = runtime.load(target, tmp_path, threads=1).predict(rows)["probabilities"]
    np.testing.assert_allclose(given, Eager(module, spec, 1).predict(rows)["probabilities"], atol=1e-5)
    assert ["'mask'" in note for note in record.notes if "does not influence" in note] == [True]


@pytest.mark.parametrize("target", TARGETS)
def test_integer_and_bool_inputs_are_carried(target: str, tmp_path: Path):
    rng = np.random.default_rng(0)
    example = {"tokens": rng.integers(0, 10, (4, 5)), "keep": rng.random((4, 5)) > 0.3}
    module, spec = deployed(Tokens(), PLAIN), spec_of(example, 3)
    convert("c0", target, module, example, spec, tmp_path)
    rows = {"tokens": rng.integers(0, 10, (9, 5)).astype(np.int32), "keep": rng.random((9, 5)) > 0.5}
    given = runtime.load(target, tmp_path, threads=1).predict(rows)["probabilities"]
    np.testing.assert_allclose(given, Eager(module, spec, 1).predict(rows)["probabilities"], atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_batch_norm_without_running_statistics_is_refused_by_layer_name(target: str, tmp_path: Path):
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    late = nn.BatchNorm2d(4)
    late.running_mean = late.running_var = None
    model = nn.Sequential(bare, nn.Linear(64, 4), nn.Unflatten(1, (4, 1, 1)), late, nn.Flatten())
    example = floats(4, 1, 6, 6)
    with pytest.raises(UnsupportedError) as caught:
        convert("c0", target, deployed(model, PLAIN), example, spec_of(example, 4), tmp_path)
    assert "model.0.1 (BatchNorm2d)" in caught.value.where
    assert "model.3 (BatchNorm2d)" in caught.value.where


class Rows(CalibrationDataReader):
    def __init__(self, values: np.ndarray) -> None:
        self.left = [{"input": values[i : i + 8]} for i in range(0, len(values), 8)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


@pytest.fixture(scope="module")
def fp32_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = tmp_path_factory.mktemp("fp32") / "fp32.onnx"
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 64, 3), nn.ReLU()]
    wide = nn.Sequential(*body, nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 3))
    export_onnx(deployed(wide, PLAIN), floats(4, 1, 6, 6), graph)
    return graph


@pytest.fixture(scope="module")
def int8_graph(fp32_graph: Path) -> Path:
    graph = fp32_graph.with_name("model.onnx")
    quantize_static(
        fp32_graph,
        graph,
        Rows(floats(64, 1, 6, 6)["input"]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"WeightSymmetric": True},
    )
    return graph


def test_a_quantized_graph_runs_on_onnxruntime_and_openvino_with_like_answers_and_small_files(
    int8_graph: Path, fp32_graph: Path, tmp_path: Path
):
    example, answers = floats(4, 1, 6, 6), {}
    for target in ("onnxruntime-cpu", "openvino-cpu"):
        out = tmp_path / target
        out.mkdir()
        record = convert("c0", target, int8_graph, example, spec_of(example, 3), out)
        assert record.precision == "int8"
        assert record.size_bytes < 0.5 * fp32_graph.stat().st_size
        answers[target] = runtime.load(target, out, threads=1).predict(floats(200, 1, 6, 6, seed=3))["probabilities"]
    reference = Predictor(open_session(fp32_graph, threads=1), spec_of(example, 3))
    expected = reference.predict(floats(200, 1, 6, 6, seed=3))["probabilities"]
    for given in answers.values():
        assert 0 < np.abs(given - expected).max() < 0.05


def test_a_quantized_graph_for_torchscript_is_refused(int8_graph: Path, tmp_path: Path):
    example = floats(4, 1, 6, 6)
    with pytest.raises(UnsupportedError, match=r"does not carry int8: .*TorchScript"):
        convert("c0", "torchscript-cpu", int8_graph, example, spec_of(example, 3), tmp_path)
    assert [target for target in TARGETS if carries(target, "int8")] == ["onnxruntime-cpu", "openvino-cpu"]
    with pytest.raises(UnsupportedError, match="unknown target"):
        carries("tpu", "fp32")


def stored(precision: str, fp32_graph: Path, folder: Path) -> Path:
    out = folder / f"{precision}.onnx"
    if precision == "sparse":
        model = onnx.load(fp32_graph)
        for name, values in float_weights(model).items():
            thinned = np.where(np.abs(values) < np.quantile(np.abs(values), 0.8), np.float32(0), values)
            place = next(item for item in model.graph.initializer if item.name == name)
            place.CopyFrom(onnx.numpy_helper.from_array(thinned, name))
        onnx.save(model, folder / "thinned.onnx")
        pack_sparse(folder / "thinned.onnx", out)
    elif precision == "clustered":
        cluster(fp32_graph, 4, out)
    else:
        half(fp32_graph, out)
    return out


@pytest.mark.parametrize(("precision", "share"), [("clustered", 0.125), ("fp16", 0.5), ("sparse", 0.255)])
def test_weights_in_another_form_are_small_on_both_targets_and_answer_alike(
    precision: str, share: float, fp32_graph: Path, tmp_path: Path
):
    graph, example, answers = stored(precision, fp32_graph, tmp_path), floats(4, 1, 6, 6), []
    sizes = {}
    for target in ("onnxruntime-cpu", "openvino-cpu"):
        out = tmp_path / target
        out.mkdir()
        record = convert("c0", target, graph, example, spec_of(example, 3), out, precision)
        assert record.precision == precision
        sizes[target] = record.size_bytes
        rows = floats(200, 1, 6, 6, seed=3)
        answers.append(runtime.load(target, out, threads=1).predict(rows)["probabilities"])
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    assert sizes["onnxruntime-cpu"] < (share + 0.05) * fp32_graph.stat().st_size
    # Had OpenVINO computed the weights before it wrote them, they would be FP32 again.
    weights = next((tmp_path / "openvino-cpu").glob("model.bin*"))
    assert weights.stat().st_size < (share + 0.01) * fp32_graph.stat().st_size


@pytest.mark.parametrize("precision", ["clustered", "sparse"])
def test_the_compiled_openvino_model_of_decoded_weights_has_no_look_up_left(
    precision: str, fp32_graph: Path, tmp_path: Path
):
    import openvino

    (tmp_path / "ov").mkdir()
    example = floats(4, 1, 6, 6)
    graph = stored(precision, fp32_graph, tmp_path)
    convert("c0", "openvino-cpu", graph, example, spec_of(example, 3), tmp_path / "ov", precision)
    compiled = openvino.Core().compile_model(read_model(tmp_path / "ov"), "CPU")
    layers = {op.get_rt_info()["layerType"].astype(str) for op in compiled.get_runtime_model().get_ordered_ops()}
    assert "Convolution" in layers
    assert not layers & {"Gather", "Eltwise", "Reduce"}


def test_a_graph_that_openvino_answers_otherwise_than_onnx_runtime_is_caught(fp32_graph: Path, tmp_path: Path):
    (tmp_path / "ov").mkdir()
    model = onnx.load(str(fp32_graph))
    weight = next(item for item in model.graph.initializer if list(item.dims) == [64, 1024])
    # OpenVINO reads a right shift of bytes as a division without rounding down.
    weight_name = weight.name
    bytes_ = onnx.numpy_helper.from_array(np.random.default_rng(0).integers(0, 256, (64, 1024)).astype(np.uint8), "b")
    model.graph.initializer.remove(weight)
    model.graph.initializer.extend(
        [
            bytes_,
            onnx.numpy_helper.from_array(np.array(7, np.uint8), "seven"),
            onnx.numpy_helper.from_array(np.linspace(-0.1, 0.1, 2).astype(np.float32), "two"),
        ]
    )
    nodes = [
        onnx.helper.make_node("BitShift", ["b", "seven"], ["bit"], direction="RIGHT"),
        onnx.helper.make_node("Cast", ["bit"], ["index"], to=onnx.TensorProto.INT32),
        onnx.helper.make_node("Gather", ["two", "index"], [weight_name]),
        *model.graph.node,
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(tmp_path / "shifted.onnx"))
    example = floats(4, 1, 6, 6)
    with pytest.raises(ConversionError, match="probabilities differ"):
        convert("c0", "openvino-cpu", tmp_path / "shifted.onnx", example, spec_of(example, 3), tmp_path / "ov", "fp16")


def test_a_dynamic_graph_is_taken_though_a_row_answers_otherwise_among_others(tmp_path: Path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    with torch.no_grad():
        model[2].weight.mul_(20)
    example = {"input": floats(8, 20)["input"] * np.float32(10) ** np.arange(8, dtype=np.float32)[:, None]}
    export_onnx(deployed(model, PLAIN), example, tmp_path / "fp32.onnx")
    facts = quantize(tmp_path / "fp32.onnx", {}, {}, Quantize(mode="dynamic"), tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    spec = spec_of(example, 5)
    record = convert(
        "c0", "onnxruntime-cpu", tmp_path / "model.onnx", example, spec, tmp_path / "out", facts["precision"]
    )
    assert record.precision == "int8-dynamic"
    predictor = runtime.load("onnxruntime-cpu", tmp_path / "out", threads=1)
    alone = predictor.predict({"input": example["input"][:1]})["probabilities"]
    assert np.abs(predictor.predict(example)["probabilities"][:1] - alone).max() > 0.1  # or this test shows nothing
    with pytest.raises(UnsupportedError, match="does not carry int8-dynamic: OpenVINO computes"):
        convert("c0", "openvino-cpu", tmp_path / "model.onnx", example, spec, tmp_path, facts["precision"])


def test_no_target_but_onnx_runtime_and_openvino_carries_compressed_weights():
    held = {
        precision: [t for t in TARGETS if carries(t, precision)]
        for precision in ("clustered", "fp16", "sparse", "fp32")
    }
    assert held["clustered"] == held["fp16"] == held["sparse"] == ["onnxruntime-cpu", "openvino-cpu"]
    assert held["fp32"] == TARGETS
    assert [t for t in TARGETS if carries(t, "int8-dynamic")] == ["onnxruntime-cpu"]


def test_large_weights_go_to_a_side_file_that_is_part_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_format, "SINGLE_FILE_BYTES", 1024)
    example = floats(4, 400)
    record = convert(
        "c0", "onnxruntime-cpu", deployed(nn.Linear(400, 3), PLAIN), example, spec_of(example, 3), tmp_path
    )
    assert set(record.files) == {"model.onnx", "model.onnx.data", "spec.json"}
    assert record.size_bytes > 400 * 3 * 4
    (tmp_path / "model.onnx.data").write_bytes(b"")
    with pytest.raises(ConversionError, match="side-file with weights is missing, empty"):
        onnx_format.side_files(tmp_path / "model.onnx")


def test_an_onnx_file_with_a_fixed_batch_or_a_training_node_is_refused(fp32_graph: Path, tmp_path: Path):
    fixed = onnx.load(str(fp32_graph))
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(fixed, str(tmp_path / "fixed.onnx"))
    with pytest.raises(ConversionError, match="came out fixed"):
        onnx_format.check_file(tmp_path / "fixed.onnx", ["input"])
    named = onnx.load(str(fp32_graph))
    onnx.save(named, str(tmp_path / "named.onnx"))
    with pytest.raises(ConversionError, match=r"inputs are \['input'\].*expected \['pixels'\]"):
        onnx_format.check_file(tmp_path / "named.onnx", ["pixels"])


def test_where_the_export_based_exporter_fails_the_other_is_used_and_the_note_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def cannot(*_: object) -> str:
        raise RuntimeError("no translation for operator aten.imaginary")

    monkeypatch.setattr(onnx_format, "_by_export", cannot)
    notes = export_onnx(deployed(cnn(), PLAIN), floats(4, 1, 6, 6), tmp_path / "model.onnx")
    assert "TorchScript" in notes[0]
    assert "aten.imaginary" in notes[0]


@pytest.mark.parametrize("kind", ["batch 17", "opposite values"])
def test_a_converted_model_with_other_answers_is_caught(kind: str):
    module, example = deployed(cnn(), PLAIN), floats(4, 1, 6, 6)
    eager = Eager(module, spec_of(example, 3), threads=1)
    bad = dict(probing.probes(example))[kind]["input"]

    def answer(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        right = eager.predict(inputs)["probabilities"]
        return {"probabilities": right[:, ::-1] if np.array_equal(inputs["input"], bad) else right}

    with pytest.raises(ConversionError, match=f"at {kind}: probabilities differ"):
        probing.check_answers(module, example, answer, "onnxruntime-cpu")


def test_deployed_is_preprocessing_then_logits_then_softmax_in_eval_mode():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
    module = deployed(model, Preprocess(scale=0.5, mean=[1.0], std=[2.0]))
    with torch.no_grad():
        given = module(torch.tensor([[4.0, 2.0]]))
    # (4/2 - 1)/2 = 0.5 and (2/2 - 1)/2 = 0
    torch.testing.assert_close(given, torch.softmax(torch.tensor([[0.5, 0.0]]), 1))


def test_an_input_of_another_dtype_is_refused_when_the_specification_is_made():
    with pytest.raises(UnsupportedError, match="float64"):
        spec_of({"input": np.zeros((2, 3))}, 2)


def test_a_folder_that_is_not_empty_is_not_written_to(tmp_path: Path):
    (tmp_path / "old").touch()
    example = floats(4, 4)
    with pytest.raises(ConversionError, match="empty"):
        convert("c0", "torchscript-cpu", deployed(Linear(), PLAIN), example, spec_of(example, 3), tmp_path)
