"""Models with several outputs: each format carries them by name, and each wrong one is refused or caught by name."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from trimtab import runtime
from trimtab.compress.half import half
from trimtab.compress.quantize import quantize
from trimtab.compress.quantize_openvino import quantize_openvino
from trimtab.convert import Code, check, convert
from trimtab.convert.first_difference import first_difference
from trimtab.convert.graph import deployed, measured_spec
from trimtab.convert.onnx_format import export_onnx
from trimtab.convert.opened import operations
from trimtab.errors import ConversionError, ModelError, UnsupportedError
from trimtab.free_axes import FreeAxis
from trimtab.further import further_of
from trimtab.outputs import Outputs
from trimtab.preprocess import Ask, logits
from trimtab.recipe.schema import Preprocess, Quantize, QuantizeOpenvino
from trimtab.runtime.availability import why_unavailable
from trimtab.runtime.eager import Predictor as Eager
from trimtab.targets import TARGETS
from trimtab.verify.further import compare_further

HOLDING = [name for name, entry in TARGETS.items() if entry.further_outputs and not why_unavailable(name)]
PLAIN = Preprocess()
ROWS = {"input": np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)}
EXAMPLE = {"input": ROWS["input"][:4]}


class Answer(NamedTuple):
    logits: Tensor
    hidden: Tensor


@dataclass
class Record:
    logits: Tensor
    hidden: tuple[Tensor, ...]


class Net(nn.Module):
    """logits (n, 3) of hidden (n, width), in whatever `form` makes of the two."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any], width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.form = nn.Linear(6, width), nn.Linear(width, 3), form

    def forward(self, input: Tensor) -> Any:
        hidden = torch.tanh(self.body(input))
        return self.form(self.head(hidden), hidden)


FORMS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Outputs]] = {
    "dict": (
        lambda a, b: {"hidden": b, "logits": a},
        Outputs("logits", {"embedding": "hidden", "raw": "logits"}),
    ),
    "tuple": (lambda a, b: (b, a), Outputs("1", {"embedding": "0", "raw": "1"})),
    "named tuple": (Answer, Outputs("logits", {"embedding": "hidden", "raw": "logits"})),
    "nested": (
        lambda a, b: {"head": {"logits": a}, "states": [Record(a, (b, b[:, :2] * 2))]},
        Outputs("head.logits", {"embedding": "states.0.hidden.0", "first": "states.0.hidden.1"}),
    ),
}


def module_of(form: str, width: int = 8) -> nn.Module:
    build, outputs = FORMS[form]
    return deployed(Net(build, width), Preprocess(scale=0.5, mean=[0.1], std=[2.0]), outputs=outputs)


def same(given: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(given) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(given[name], values, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", [target for target in HOLDING if target != "eager-cpu"])
def test_every_format_answers_all_outputs_by_name_the_deciding_one_first(target: str, form: str, tmp_path: Path):
    module = module_of(form)
    spec = measured_spec(module, EXAMPLE)
    convert("c0", target, module, EXAMPLE, spec, tmp_path)
    predictor, eager = runtime.load(target, tmp_path, threads=1), Eager(module, spec, threads=1)
    assert [tensor["name"] for tensor in spec["outputs"]] == ["probabilities", *FORMS[form][1].also]
    assert json.loads((tmp_path / "spec.json").read_text()) == spec
    for batch in (1, 2, 17):
        rows = {"input": ROWS["input"][:batch]}
        same(predictor.predict(rows), eager.predict(rows))


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, input):
        hidden = torch.tanh(self.body(input))
        return {"logits": self.head(hidden), "states": (hidden, hidden * 2)}
"""


def test_eager_takes_the_same_outputs_from_the_users_own_code(tmp_path: Path):
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "net.py").write_text(NET)
    (out := tmp_path / "out").mkdir()

    def build() -> nn.Module:
        from trimtab.runtime.eager_cpu import _built

        return _built(tmp_path / "user", "net:Net", {})

    outputs = Outputs("logits", {"embedding": "states.0", "double": "states.1"})
    module = deployed(build(), Preprocess(scale=0.5), outputs=outputs)
    spec = measured_spec(module, EXAMPLE)
    convert("c0", "eager-cpu", module, EXAMPLE, spec, out, code=Code("net:Net", {}, tmp_path / "user", build))
    same(runtime.load("eager-cpu", out, threads=1).predict(ROWS), Eager(module, spec, threads=1).predict(ROWS))
    assert "class Predictor" in runtime.bundle("eager-cpu")
    assert "def picked" in runtime.bundle("eager-cpu")


class Signed(Net):
    """Decides by values, so that it has to be scripted."""

    def __init__(self) -> None:
        super().__init__(lambda a, b: (a, b))

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        hidden = self.body(input)
        if bool(input.sum() > 0):
            hidden = hidden + 1.0
        return {"logits": self.head(hidden), "hidden": hidden}


def test_a_scripted_model_gives_all_its_outputs(tmp_path: Path):
    model = Signed()
    del model.form  # TorchScript compiles no lambda
    module = deployed(model, PLAIN, outputs=Outputs("logits", {"embedding": "hidden"}))
    spec = measured_spec(module, EXAMPLE)
    convert("c0", "torchscript-cpu", module, EXAMPLE, spec, tmp_path)
    predictor = runtime.load("torchscript-cpu", tmp_path, threads=1)
    for rows in (ROWS, {"input": -ROWS["input"]}):
        same(predictor.predict(rows), Eager(module, spec, threads=1).predict(rows))


@pytest.mark.parametrize("target", [name for name, entry in TARGETS.items() if not entry.further_outputs])
def test_a_format_that_cannot_hold_them_says_so_before_anything_is_written(target: str, tmp_path: Path):
    module = module_of("dict")
    with pytest.raises(UnsupportedError, match="cannot hold embedding, raw beside probabilities"):
        convert("c0", target, module, EXAMPLE, measured_spec(module, EXAMPLE), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_deciding_output_alone_is_one_tensor_for_every_format():
    build, outputs = FORMS["dict"]
    module = deployed(Net(build), PLAIN, outputs=outputs.deciding)
    answer = module(torch.from_numpy(EXAMPLE["input"]))
    assert isinstance(answer, Tensor)
    assert answer.shape == (4, 3)


@pytest.mark.parametrize(
    ("form", "answer", "words"),
    [
        ("dict", None, ("returned dict, not one tensor", "hidden, logits", "model.answer: hidden")),
        ("tuple", None, ("returned tuple", "0, 1")),
        ("dict", "logit", ("returned nothing at 'logit'", "there are hidden, logits")),
        ("nested", "states", ("'states' holds states.0.logits, states.0.hidden.0", "head.logits")),
    ],
)
def test_what_to_write_in_the_recipe_is_said_with_the_paths_there_are(form: str, answer: str | None, words: tuple):
    with pytest.raises(ModelError) as caught:
        logits(Net(FORMS[form][0]), {"input": torch.zeros(2, 6)}, PLAIN, Outputs(answer))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda a, b: (a, 3), "'1' is int, not a tensor"),
        (lambda a, b: (a, b.argmax(1)), "is torch.int64"),
        (lambda a, b: (a, b.mean(0)), r"shape \(8,\) for 3 rows"),
        (lambda a, b: (a, b.mean()), r"shape \(\) for 3 rows"),
        (lambda a, b: (a, b / 0), "NaN or infinity"),
    ],
)
def test_an_output_that_cannot_be_kept_is_refused_by_name(form: Callable[[Tensor, Tensor], Any], words: str):
    with pytest.raises(ModelError, match=words):
        further_of(Ask(PLAIN, outputs=Outputs("0", {"other": "1"})), Net(form).eval(), EXAMPLE)


def test_one_tensor_under_two_names_is_refused():
    ask = Ask(PLAIN, outputs=Outputs("0", {"one": "1", "two": "2"}))
    with pytest.raises(ModelError, match="is the tensor that one is"):
        further_of(ask, Net(lambda a, b: (a, b, b)).eval(), EXAMPLE)


class Steps(nn.Module):
    """A classifier of sequences that also gives a score a step, and the sequence cut in half."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        steps = torch.tanh(self.body(input))
        return {"logits": self.head(steps.mean(1)), "steps": steps.sum(2), "half": steps[:, ::2]}


@pytest.mark.parametrize("target", [name for name in HOLDING if TARGETS[name].free_axes and name != "eager-cpu"])
def test_a_further_output_may_be_as_long_as_the_input(target: str, tmp_path: Path):
    axes = {"input": {1: FreeAxis("length", 4, 40)}}
    rows = {"input": np.random.default_rng(0).standard_normal((4, 10, 6)).astype(np.float32)}
    module = deployed(Steps(), PLAIN, outputs=Outputs("logits", {"steps": "steps", "half": "half"}))
    spec = measured_spec(module, rows, axes)
    assert [tensor["shape"] for tensor in spec["outputs"][1:]] == [["batch", "length"], ["batch", "half_1", 8]]
    convert("c0", target, module, rows, spec, tmp_path)
    predictor, eager = runtime.load(target, tmp_path, threads=1), Eager(module, spec, threads=1)
    for length in (4, 7, 40):
        asked = {"input": np.random.default_rng(length).standard_normal((3, length, 6)).astype(np.float32)}
        same(predictor.predict(asked), eager.predict(asked))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_onnx(module_of("dict", 256), EXAMPLE, path)
    return path


@pytest.mark.parametrize("target", ["onnxruntime-cpu", "openvino-cpu"])
@pytest.mark.parametrize("method", ["int8", "fp16"])
def test_a_rewritten_graph_keeps_all_outputs(target: str, method: str, graph: Path, tmp_path: Path):
    if method == "int8":
        quantize(graph, ROWS, ROWS, Quantize(calibration_rows=40, minimum_rows=10), tmp_path / "other.onnx")
    else:
        half(graph, tmp_path / "other.onnx")
    (out := tmp_path / "out").mkdir()
    module = module_of("dict", 256)
    spec = measured_spec(module, EXAMPLE)
    convert("c0", target, tmp_path / "other.onnx", EXAMPLE, spec, out, method)
    given = runtime.load(target, out, threads=1).predict(ROWS)
    expected = Eager(module, spec, threads=1).predict(ROWS)
    assert list(given) == list(expected)
    for name, values in expected.items():
        assert np.sqrt(np.square(given[name] - values).mean() / np.square(values).mean()) < 0.2, name


class Rectified(nn.Module):
    """What is kept is read by a ReLU alone, which quantizers fold into the layer before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        kept = self.body(input)
        return self.head(torch.relu(kept)), kept


def rectified() -> tuple[nn.Module, dict[str, Any]]:
    module = deployed(Rectified(), PLAIN, outputs=Outputs("0", {"kept": "1"}))
    return module, measured_spec(module, EXAMPLE)


# NNCF's ranges of so few rows are narrow, and clip; what is lost with the negative part is all of it, 1.0.
@pytest.mark.parametrize(("method", "most"), [("int8", 0.05), ("int8-dynamic", 0.05), ("int8-nncf", 0.6)])
def test_what_a_relu_reads_keeps_its_negative_part_in_int8(method: str, most: float, tmp_path: Path):
    module, spec = rectified()
    for name in ("fp32", "out"):
        (tmp_path / name).mkdir()
    if method == "int8-nncf":
        target, source = "openvino-cpu", tmp_path / "model.xml"
        convert("c0", target, module, EXAMPLE, spec, tmp_path / "fp32")
        quantize_openvino(tmp_path / "fp32", ROWS, ROWS, QuantizeOpenvino(calibration_rows=40, minimum_rows=10), source)
    else:
        target, source = "onnxruntime-cpu", tmp_path / "int8.onnx"
        export_onnx(module, EXAMPLE, tmp_path / "model.onnx")
        mode = "dynamic" if method == "int8-dynamic" else "static"
        settings = Quantize(calibration_rows=40, minimum_rows=10, mode=mode)
        quantize(tmp_path / "model.onnx", ROWS, ROWS, settings, source)
    convert("c0", target, source, EXAMPLE, spec, tmp_path / "out", method)
    given = runtime.load(target, tmp_path / "out", threads=1).predict(ROWS)
    expected = Eager(module, spec, threads=1).predict(ROWS)
    assert list(given) == ["probabilities", "kept"]
    below = expected["kept"] < 0
    off, whole = (given["kept"] - expected["kept"])[below], expected["kept"][below]
    assert np.sqrt(np.square(off).mean() / np.square(whole).mean()) < most


def test_logits_that_are_an_output_themselves_are_not_rounded_to_eight_bits(graph: Path, tmp_path: Path):
    quantize(graph, ROWS, ROWS, Quantize(calibration_rows=40, minimum_rows=10), tmp_path / "int8.onnx")
    model = onnx.load(str(tmp_path / "int8.onnx"))
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    assert made_by["raw"] != "DequantizeLinear"
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    assert made_by[softmax.input[0]] != "DequantizeLinear"


def test_nncf_keeps_all_outputs(tmp_path: Path):
    module = module_of("dict")
    spec = measured_spec(module, EXAMPLE)
    for name in ("fp32", "int8"):
        (tmp_path / name).mkdir()
    convert("c0", "openvino-cpu", module, EXAMPLE, spec, tmp_path / "fp32")
    settings = QuantizeOpenvino(calibration_rows=40, minimum_rows=10)
    quantize_openvino(tmp_path / "fp32", ROWS, ROWS, settings, tmp_path / "model.xml")
    convert("c0", "openvino-cpu", tmp_path / "model.xml", EXAMPLE, spec, tmp_path / "int8", "int8-nncf")
    assert list(runtime.load("openvino-cpu", tmp_path / "int8", threads=1).predict(ROWS)) == [
        "probabilities",
        "embedding",
        "raw",
    ]


def test_a_module_whose_outputs_are_not_those_of_the_specification_is_refused_before_anything_is_written(
    tmp_path: Path,
):
    module = module_of("dict")
    spec = measured_spec(module, EXAMPLE)
    spec["outputs"][1]["shape"] = ["batch", 16]
    with pytest.raises(ModelError, match=r"embedding \(batch, 8\).*expected.*embedding \(batch, 16\)"):
        convert("c0", "onnxruntime-cpu", module, EXAMPLE, spec, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", [target for target in HOLDING if target not in ("eager-cpu", "savedmodel-cpu")])
def test_a_wrong_further_output_is_named_with_the_layer(target: str, tmp_path: Path):
    module = module_of("nested")
    spec = measured_spec(module, EXAMPLE)
    convert("c0", target, module, EXAMPLE, spec, tmp_path)
    for place, tensor in enumerate(spec["outputs"]):
        opened = operations(target, tmp_path, EXAMPLE, place)[-1].array
        expected = Eager(module, spec, threads=1).predict(EXAMPLE)[tensor["name"]]
        assert opened is not None
        np.testing.assert_allclose(opened, expected, atol=1e-5)
    other = module_of("nested")
    with torch.no_grad():
        other.get_parameter("model.body.bias").add_(0.5)
    said = first_difference(other, target, tmp_path, EXAMPLE, output=1)
    assert "model.body" in str(said)
    with torch.no_grad():
        other.get_parameter("model.head.weight").zero_()
        other.get_parameter("model.head.bias").copy_(module.get_parameter("model.head.bias"))
    with pytest.raises(ConversionError):
        check(target, other, EXAMPLE, spec, tmp_path)


def test_further_outputs_are_compared_relative_to_their_largest_value_and_in_the_mean():
    class Fixed:
        def __init__(self, values: list[float]) -> None:
            self.spec = {"outputs": [{"name": "probabilities"}, {"name": "other"}]}
            self.values = np.array([values])

        def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"probabilities": np.ones((1, 1)), "other": self.values}

    (found,) = compare_further(Fixed([2.0, -4.0]), Fixed([2.1, -4.0]), {"input": np.zeros(1)}, Fixed([2.1, -4.0]))
    assert found.largest == pytest.approx(0.025)
    assert found.mean == pytest.approx(np.sqrt(0.01 / 20))
    assert found.from_original == 0
    with pytest.raises(ConversionError, match="row 0 is not finite"):
        compare_further(Fixed([2.0, -4.0]), Fixed([np.nan, 0.0]), {"input": np.zeros(1)})
    with pytest.raises(ConversionError, match="has shape"):
        compare_further(Fixed([2.0]), Fixed([2.0, 0.0]), {"input": np.zeros(1)})
