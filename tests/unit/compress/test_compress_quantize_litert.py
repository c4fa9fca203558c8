"""LiteRT's INT8: decisions are kept, every size of the file answers alike, what does not fit is refused by name.

A conversion takes half a minute, so that few are made; what the quantizers share is in the tests of ExecuTorch's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from trimtab import runtime
from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.compress.convert_candidate import convert_candidate, precision_of
from trimtab.compress.make import make
from trimtab.compress.quantize_litert import quantize_litert
from trimtab.compress.search import ON_THE_GRAPH, precision
from trimtab.compress.search.grid import on_the_graph
from trimtab.compress.search.lanes import lanes_of
from trimtab.compress.weights import save_candidate
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.errors import CalibrationError, UnsupportedError
from trimtab.optimize.architectures.cnn import cnn
from trimtab.recipe.schema import Compress, Preprocess, Quantize
from trimtab.runtime.availability import why_unavailable
from trimtab.settings import Settings
from trimtab.store import folder_digests
from trimtab.workbench import Workbench

TARGET, PRECISION = "litert-cpu", "int8-litert"
SETTINGS = Quantize(calibration_rows=64)
needed = pytest.mark.skipif(bool(why_unavailable(TARGET)), reason=f"{TARGET}: {why_unavailable(TARGET)}")


def test_it_is_planned_only_where_static_int8_is_asked_for_and_the_target_is_there() -> None:
    asked = Compress(quantize_openvino=None, quantize=Quantize(calibration_rows=50, max_drop=0.01))
    steps = {step.method: step for step in on_the_graph(asked, ["onnxruntime-cpu", TARGET])}
    assert list(steps) == ["quantize", "quantize_litert"]
    own = steps["quantize_litert"]
    assert own.parameters == {
        "calibration": "minmax", "calibration_rows": 50, "minimum_rows": 32, "per_channel": True, "label": PRECISION,
    }  # fmt: skip
    assert precision([own]) == PRECISION
    assert own.method in ON_THE_GRAPH
    assert [lane.name for lane in lanes_of(asked, [TARGET])] == [f"fp32 on {TARGET}", f"{PRECISION} on {TARGET}"]
    for other in (Compress(quantize=None), Compress(quantize=Quantize(mode="dynamic"))):
        assert "quantize_litert" not in [step.method for step in on_the_graph(other, [TARGET])]
    assert "quantize_litert" not in [step.method for step in on_the_graph(asked, ["executorch-cpu"])]


def quantized(
    model: nn.Module, rows: np.ndarray, out: Path, settings: Quantize = SETTINGS, preprocess: Preprocess | None = None
) -> dict:
    module = deployed(model, preprocess or Preprocess())
    return quantize_litert(module, {"input": rows}, {"input": rows}, settings, out)


def ship(source: Path, out: Path, example: np.ndarray, classes: int) -> runtime.Predictor:
    """A build, opened."""
    out.mkdir()
    rows = {"input": example[:4]}
    convert("c1", TARGET, source, rows, spec_of(rows, classes), out, PRECISION)
    return runtime.load(TARGET, out, threads=1)


@needed
def test_decisions_are_kept_layers_are_in_integers_and_any_batch_answers_alike(tmp_path: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype(np.float32)
    torch.manual_seed(0)
    pixels, known = torch.from_numpy(images[:1000]), torch.from_numpy(labels[:1000])
    model = cnn(1, 10, widths=(16, 32))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(4):
        for part in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pixels[part] / 16), known[part]).backward()
            optimizer.step()

    facts = quantized(model.eval(), images[:128], tmp_path / "model.tflite", preprocess=Preprocess(scale=1 / 16))

    assert (facts["precision"], facts["calibration"], facts["calibration_rows"]) == (PRECISION, "minmax", 64)
    assert (facts["quantized_nodes"], facts["float_layers"], facts["weights_quantized"]) == (3, 0, 1)
    predictor = ship(tmp_path / "model.tflite", tmp_path / "out", images, 10)
    unseen, right = images[1000:], labels[1000:]
    given = predictor.predict({"input": unseen})["probabilities"]
    assert given.dtype == np.float32
    with torch.inference_mode():
        before = model(torch.from_numpy(unseen) / 16).argmax(1).numpy()
    assert (before == right).mean() > 0.9
    assert (given.argmax(1) == right).mean() > (before == right).mean() - 0.01
    assert (given.argmax(1) == before).mean() > 0.98
    for rows in (1, 2, 7, 33):  # by the signatures of 1, 8 and 32 rows
        alone = predictor.predict({"input": unseen[:rows]})["probabilities"]
        np.testing.assert_allclose(alone, given[:rows], atol=1e-6)
    weights = sum(weight.numel() for weight in model.parameters() if weight.ndim > 1)
    assert (tmp_path / "model.tflite").stat().st_size < 4 * weights  # less than the weights alone in FP32


@needed
def test_pre_processing_and_a_recurrent_layer_stay_in_float_and_settings_reach_the_quantizer(tmp_path: Path) -> None:
    """Columns that differ by orders of magnitude before they are scaled: one range for all would round most to 0."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, value: Tensor) -> Tensor:
            return self.head(self.body(value.reshape(-1, 2, 3))[0][:, -1])

    torch.manual_seed(0)
    rows = np.random.default_rng(0).normal(size=(128, 6)).astype(np.float32)
    scales = np.array([1e-3, 1, 1e3, 1e-2, 10, 1e4], np.float32)
    model, preprocess = Recurrent().eval(), Preprocess(mean=[0.0] * 6, std=scales.tolist())
    settings = SETTINGS.model_copy(update={"calibration": "mse", "per_channel": False})

    facts = quantized(model, rows * scales, tmp_path / "model.tflite", settings, preprocess)

    assert (facts["calibration"], facts["weights"]) == ("mse", "int8, per tensor")
    assert (facts["quantized_nodes"], facts["weights_quantized"]) == (1, 1)
    predictor = ship(tmp_path / "model.tflite", tmp_path / "out", rows * scales, 3)
    given = predictor.predict({"input": rows * scales})["probabilities"]
    with torch.inference_mode():
        expected = deployed(model, preprocess)(torch.from_numpy(rows * scales)).numpy()
    assert 0 < np.abs(given - expected).max() < 0.05


@needed
def test_sums_products_and_pooling_between_layers_are_in_integers(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

        def forward(self, value: Tensor) -> Tensor:
            first = torch.relu(self.first(value))
            added = torch.relu(first + self.second(first))
            return self.head(self.pool(nn.functional.max_pool2d(added * first, 2)).flatten(1))

    torch.manual_seed(0)
    rows = np.random.default_rng(0).normal(size=(64, 2, 8, 8)).astype(np.float32)

    quantized(Residual(), rows, tmp_path / "model.tflite", preprocess=Preprocess(scale=0.5))

    interpreter = Interpreter(model_path=str(tmp_path / "model.tflite"))
    floats = {tensor["index"] for tensor in interpreter.get_tensor_details() if tensor["dtype"] is np.float32}
    operations = interpreter._get_ops_details()
    in_float = [one["op_name"] for one in operations if set(one["inputs"]) & floats]
    assert in_float == ["MUL", "QUANTIZE", "SOFTMAX"]  # pre-processing, what begins the integers, what follows them
    assert {"ADD", "MUL", "MAX_POOL_2D", "CONV_2D"} <= {one["op_name"] for one in operations} - {"SOFTMAX"}


@needed
def test_a_mask_of_minus_infinity_that_is_added_is_refused_by_name(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, value: Tensor) -> Tensor:
            return self.head(torch.softmax(value + torch.where(value > 0, 0.0, -torch.inf), 1))

    rows = np.abs(np.random.default_rng(0).normal(size=(64, 6))).astype(np.float32)
    rows[:, 0] *= -1
    with pytest.raises(UnsupportedError, match="no finite range"):
        quantized(Masked(), rows, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


@needed
def test_a_model_without_weights_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    with pytest.raises(UnsupportedError, match="0 of 0 weights quantized"):
        quantized(nn.Flatten(), rows, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        (Quantize(calibration="entropy"), 64, "no calibration 'entropy'"),
        (SETTINGS, 20, "20 rows, at least 32"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_a_worker_is_asked(
    settings: Quantize, rows: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_HOME", str(tmp_path / "home"))
    values = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    with pytest.raises((UnsupportedError, CalibrationError), match=message):
        quantized(nn.Linear(3, 3), values, tmp_path / "model.tflite", settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", ["onnxruntime-cpu", "executorch-cpu", "savedmodel-cpu"])
def test_other_targets_refuse_the_file_and_say_where_it_goes(other: str, tmp_path: Path) -> None:
    rows = {"input": np.zeros((4, 3), np.float32)}
    with pytest.raises(UnsupportedError, match="does not carry int8-litert") as caught:
        convert("c1", other, tmp_path / "model.tflite", rows, spec_of(rows, 3), tmp_path, PRECISION)
    assert caught.value.fix == "use litert-cpu for it"


def test_another_runtimes_int8_is_refused_by_litert(tmp_path: Path) -> None:
    rows = {"input": np.zeros((4, 3), np.float32)}
    with pytest.raises(UnsupportedError, match="does not carry int8-xnnpack: the other compressed graphs are"):
        convert("c1", TARGET, tmp_path / "model.pte", rows, spec_of(rows, 3), tmp_path, "int8-xnnpack")


CODE = """
import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    n = {"train": 64, "validation": 32, "gate": 32}[name]
    random = np.random.default_rng(sum(map(ord, name)))
    return TensorDataset(torch.from_numpy(random.normal(size=(n, 6)).astype(np.float32)), torch.arange(n) % 3)

def build():
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
"""


@needed
def test_a_step_makes_a_candidate_whose_file_takes_eight_bits_and_goes_to_its_own_runtime(tmp_path: Path) -> None:
    (tmp_path / "net_for_litert.py").write_text(CODE)
    text = "name: a\nmodel: net_for_litert:build\ndata: net_for_litert:split\ntargets: [litert-cpu]\n"
    (tmp_path / "recipe.yaml").write_text(text)
    home = Settings(home=tmp_path / "home")
    bench = Workbench(tmp_path / "recipe.yaml", home)
    original = Candidate((Step("given"),), InputsDigest("d", "w", "c", "v"))
    folder = bench.folder(original.id)
    folder.mkdir(parents=True)
    module = bench.build()
    save_candidate(module, [], folder)
    original = bench.keep(Candidate(original.lineage, original.inputs, "torch", folder_digests(folder), {}))
    step = next(step for step in on_the_graph(bench.recipe.compress, [TARGET]) if step.method == "quantize_litert")

    made = bench.keep(make(bench, original, [step]))
    build = bench.keep_converted(convert_candidate(bench, made, TARGET))

    assert (made.format, precision_of(made), made.label) == ("litert", PRECISION, PRECISION)
    assert made.facts["calibration_rows"] == 64
    assert set(build.files) == {"model.tflite", "spec.json"}
    assert build.precision == PRECISION
    given = runtime.load(TARGET, bench.target_folder(made.id, TARGET), 1).predict(bench.example)["probabilities"]
    with torch.inference_mode():
        expected = deployed(module, Preprocess())(torch.from_numpy(bench.example["input"])).numpy()
    assert 0 < np.abs(given - expected).max() < 0.05
