"""NNCF's INT8: decisions are kept, layers run in integers, unfit rows and layers are refused, nothing is reported."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from trimtab import runtime
from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.compress.convert_candidate import convert_candidate, precision_of
from trimtab.compress.make import make
from trimtab.compress.openvino_layers import layers_of, preprocessing
from trimtab.compress.quantize_openvino import quantize_openvino
from trimtab.compress.search import ON_THE_GRAPH, precision
from trimtab.compress.weights import save_candidate
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.errors import CalibrationError, ConversionError, DataError, UnsupportedError
from trimtab.optimize.architectures.cnn import cnn
from trimtab.recipe.schema import Preprocess, QuantizeOpenvino
from trimtab.runtime.openvino_cpu import read_model
from trimtab.settings import Settings
from trimtab.store import folder_digests
from trimtab.workbench import Workbench

SETTINGS = QuantizeOpenvino(calibration_rows=64)
TARGET = "openvino-cpu"
Rows = dict[str, np.ndarray]


def fp32_of(model: nn.Module, rows: np.ndarray, folder: Path, preprocess: Preprocess | None = None) -> Path:
    """The FP32 build of a model for OpenVINO."""
    folder.mkdir(exist_ok=True)
    module = deployed(model, preprocess or Preprocess())
    with torch.no_grad():
        classes = int(module(torch.from_numpy(rows[:2])).shape[1])
    convert("c0", TARGET, module, {"input": rows[:4]}, spec_of({"input": rows[:4]}, classes), folder)
    return folder


def answers(folder: Path, rows: np.ndarray) -> np.ndarray:
    return runtime.load(TARGET, folder, threads=1).predict({"input": rows})["probabilities"]


def ship(candidate: Path, fp32: Path, out: Path, example: np.ndarray) -> Path:
    """A candidate's build: what is served."""
    out.mkdir()
    classes = answers(fp32, example[:1]).shape[1]
    convert("c1", TARGET, candidate, {"input": example[:4]}, spec_of({"input": example[:4]}, classes), out, "int8-nncf")
    return out


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 1, 8, 8).astype(np.float32), labels


@pytest.fixture(scope="module")
def images(digits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return digits[0][:128]


@pytest.fixture(scope="module")
def fp32(digits: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained network with batch norms, its pre-processing in the graph."""
    torch.manual_seed(0)
    rows, labels = (torch.from_numpy(values[:1000]) for values in digits)
    model = cnn(1, 10, widths=(16, 32))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(4):
        for part in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(rows[part] / 16), labels[part]).backward()
            optimizer.step()
    return fp32_of(model.eval(), digits[0], tmp_path_factory.mktemp("fp32"), Preprocess(scale=1 / 16))


@pytest.fixture(scope="module")
def int8(fp32: Path, images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "model.xml"
    quantize_openvino(fp32, {"input": images}, {"input": images}, SETTINGS, out)
    return out


@pytest.fixture(scope="module")
def shipped(int8: Path, fp32: Path, images: np.ndarray) -> Path:
    return ship(int8, fp32, int8.parent / "shipped", images)


def quantized(model: nn.Module, rows: np.ndarray, folder: Path, settings: QuantizeOpenvino = SETTINGS) -> dict:
    (folder / "int8").mkdir()
    build = fp32_of(model, rows, folder / "fp32")
    return quantize_openvino(build, {"input": rows}, {"input": rows}, settings, folder / "int8" / "model.xml")


def test_accuracy_on_unseen_rows_is_kept_and_the_build_is_small(
    fp32: Path, shipped: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    rows, labels = (values[1000:] for values in digits)
    before, after = (answers(folder, rows).argmax(1) for folder in (fp32, shipped))

    assert (before == labels).mean() > 0.9
    assert (after == labels).mean() > (before == labels).mean() - 0.01
    assert (before == after).mean() > 0.98
    weights = [(folder / "model.bin").stat().st_size for folder in (fp32, shipped)]
    assert weights[1] < 0.35 * weights[0]


def test_any_batch_runs_and_a_row_is_answered_the_same_in_each(shipped: Path, images: np.ndarray) -> None:
    whole = answers(shipped, images)
    for batch in (1, 3, 17):
        np.testing.assert_allclose(answers(shipped, images[:batch]), whole[:batch], atol=1e-5)


def test_the_compiled_layers_compute_in_integers(shipped: Path) -> None:
    compiled = openvino.Core().compile_model(read_model(shipped), "CPU")
    layers = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
    kinds = {
        info["runtimePrecision"].astype(str)
        for info in layers
        if info["layerType"].astype(str) in ("Convolution", "FullyConnected")
    }
    assert kinds
    assert kinds <= {"i8", "u8"}


def test_the_same_rows_give_the_same_bytes(fp32: Path, int8: Path, images: np.ndarray, tmp_path: Path) -> None:
    quantize_openvino(fp32, {"input": images}, {"input": images}, SETTINGS, tmp_path / "model.xml")
    for name in ("model.xml", "model.bin"):
        assert (tmp_path / name).read_bytes() == int8.with_name(name).read_bytes()


def test_facts_say_which_layers_and_on_how_many_rows(fp32: Path, images: np.ndarray, tmp_path: Path) -> None:
    rows = {"input": images}
    facts = quantize_openvino(fp32, rows, rows, QuantizeOpenvino(preset="performance"), tmp_path / "a.xml")

    assert (facts["precision"], facts["preset"], facts["quantized_nodes"]) == ("int8-nncf", "performance", 3)
    assert (facts["calibration_rows"], facts["calibration_rows_requested"]) == (128, 300)
    assert facts["notes"] == ["calibrated on 128 rows, fewer than the 300 asked for"]
    assert (facts["float_layers"], facts["weights_quantized"]) == ([], 1.0)


def test_a_layer_that_is_ignored_stays_in_float(fp32: Path, images: np.ndarray, tmp_path: Path) -> None:
    first, *others = [layer.name for layer in layers_of(read_model(fp32))]
    rows, settings = {"input": images}, QuantizeOpenvino(calibration_rows=64, ignored=[first])
    facts = quantize_openvino(fp32, rows, rows, settings, tmp_path / "a.xml")

    assert (facts["float_layers"], facts["layers"]) == ([first], others)
    # 16 · 1 · 9 of the first, 32 · 16 · 9 of the second convolution; the linear layer makes the rest.
    assert 0.9 < facts["weights_quantized"] < 1


def test_an_ignored_name_that_no_layer_has_is_refused_with_those_there_are(
    fp32: Path, images: np.ndarray, tmp_path: Path
) -> None:
    rows, settings = {"input": images}, QuantizeOpenvino(calibration_rows=64, ignored=["conv9"])
    with pytest.raises(UnsupportedError, match=r"no layer is called 'conv9'; there are 3: .*MatMul'"):
        quantize_openvino(fp32, rows, rows, settings, tmp_path / "a.xml")


def test_a_model_of_which_every_layer_is_ignored_is_refused(fp32: Path, images: np.ndarray, tmp_path: Path) -> None:
    names = [layer.name for layer in layers_of(read_model(fp32))]
    rows, settings = {"input": images}, QuantizeOpenvino(calibration_rows=64, ignored=names)
    with pytest.raises(UnsupportedError, match=r"0 of \d+ weights quantized: NNCF left each of 3 layers in float"):
        quantize_openvino(fp32, rows, rows, settings, tmp_path / "a.xml")
    assert not list(tmp_path.glob("a.*"))


def test_columns_of_very_different_scale_survive(tmp_path: Path) -> None:
    spread = np.array([1000.0, 0.001], np.float32)
    table = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32) * spread

    class Scales(nn.Module):
        """The identity of a scaled row in two paths, in which NNCF does not recognise pre-processing."""

        def __init__(self) -> None:
            super().__init__()
            self.linear, self.inverse = nn.Linear(2, 2, bias=False), nn.Buffer(torch.from_numpy(1 / spread))
            with torch.no_grad():  # only the small column decides
                self.linear.weight.copy_(torch.tensor([[0.0, 3.0], [0.0, -3.0]]))

        def forward(self, value: Tensor) -> Tensor:
            return self.linear(torch.relu(value * self.inverse) - torch.relu(-value * self.inverse))

    build = fp32_of(Scales(), table, tmp_path / "fp32")
    quantize_openvino(build, {"input": table}, {"input": table}, SETTINGS, tmp_path / "model.xml")
    given = answers(ship(tmp_path / "model.xml", build, tmp_path / "out", table), table)

    sure = np.abs(table[:, 1]) > 1e-4
    assert (given[sure].argmax(1) == (table[sure, 1] < 0)).all()


def test_preprocessing_ends_at_the_first_weighted_layer(images: np.ndarray, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    build = read_model(fp32_of(model, images, tmp_path / "fp32", Preprocess(mean=[8.0], std=[4.0])))
    kinds = {op.get_friendly_name(): op.get_type_name() for op in build.get_ordered_ops()}
    assert [kinds[name] for name in preprocessing(build)] == ["Add", "Divide"]


def test_too_few_rows_are_refused_with_the_count(fp32: Path, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="there are 10 rows, at least 32 are needed") as caught:
        quantize_openvino(fp32, {"input": images[:10]}, {"input": images}, SETTINGS, tmp_path / "a.xml")
    assert caught.value.where == "compress.quantize_openvino.minimum_rows"


def test_rows_that_are_not_finite_are_refused_with_the_first(fp32: Path, images: np.ndarray, tmp_path: Path) -> None:
    rows = images[:64].copy()
    rows[[5, 9], 0, 0, 0] = np.nan
    with pytest.raises(CalibrationError, match="2 of 64 rows hold NaN or infinity, first at row 5"):
        quantize_openvino(fp32, {"input": rows}, {"input": images}, SETTINGS, tmp_path / "a.xml")


def test_rows_of_another_range_than_training_are_refused_with_both(
    fp32: Path, images: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(CalibrationError, match=r"256 .*in training it is 0 … 16"):
        quantize_openvino(fp32, {"input": images * 16}, {"input": images}, SETTINGS, tmp_path / "a.xml")


class Root(nn.Module):
    """NaN for the rows whose mean is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, value: Tensor) -> Tensor:
        flat = value.flatten(1)
        return self.head(self.body(flat) * flat.mean(1, keepdim=True).sqrt())


def test_activations_that_are_nan_for_all_rows_name_the_tensor(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no finite range") as caught:
        quantized(Root(), -1 - images, tmp_path)
    assert caught.value.where == "tensor __module.module.model/aten::mul/Multiply"
    assert not list((tmp_path / "int8").iterdir())


def test_rows_that_the_model_answers_with_nan_are_left_out_and_counted(images: np.ndarray, tmp_path: Path) -> None:
    rows = images[:64].copy()
    rows[5] = -1
    facts = quantized(Root(), rows, tmp_path)

    assert facts["notes"][0] == "the model answers NaN for 1 of 64 rows, they were left out"
    assert facts["calibration_rows"] == 63
    good = np.delete(rows, 5, axis=0)
    given = answers(ship(tmp_path / "int8" / "model.xml", tmp_path / "fp32", tmp_path / "out", good), good)
    # NNCF alone would have made all answers equal.
    assert (given.argmax(1) == answers(tmp_path / "fp32", good).argmax(1)).mean() > 0.8
    assert len(set(given.argmax(1))) > 1


def test_fewer_rows_with_an_answer_than_are_needed_are_refused(images: np.ndarray, tmp_path: Path) -> None:
    rows = images[:64].copy()
    rows[::2] = -1
    with pytest.raises(CalibrationError, match="NaN for 32 of 64 rows; 32 are left, at least 40 are needed"):
        quantized(Root(), rows, tmp_path, QuantizeOpenvino(minimum_rows=40))


def test_activations_that_are_always_zero_are_taken(images: np.ndarray, tmp_path: Path) -> None:
    class Dead(Root):
        def forward(self, value: Tensor) -> Tensor:
            return self.head((self.body(value.flatten(1)) - 1e6).relu())

    assert quantized(Dead(), images, tmp_path)["quantized_nodes"] == 2


def test_a_model_without_weights_is_refused(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="0 of 0 weights quantized"):
        quantized(nn.Flatten(), images, tmp_path)


def test_a_failure_of_nncf_says_what_to_do_instead(
    fp32: Path, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no metatype for Frobnicate\nat graph.py:7")

    monkeypatch.setattr("nncf.quantize", fails)
    with pytest.raises(ConversionError, match=r"NNCF \S+ raised RuntimeError: no metatype for Frobnicate") as caught:
        quantize_openvino(fp32, {"input": images}, {"input": images}, SETTINGS, tmp_path / "a.xml")
    assert "compress.quantize_openvino" in caught.value.fix


def test_a_recurrent_layer_and_both_bias_corrections_are_taken(images: np.ndarray, tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3)

        def forward(self, value: Tensor) -> Tensor:
            return self.head(self.body(value.squeeze(1))[0][:, -1])

    settings = QuantizeOpenvino(calibration_rows=32, fast_bias_correction=False)
    facts = quantized(Recurrent(), images / 16, tmp_path, settings)
    assert (facts["quantized_nodes"], facts["fast_bias_correction"]) == (2, False)


ALONE = """
import logging, socket, sys
from pathlib import Path
import numpy as np
def refuse(*_): raise SystemExit("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refuse
from trimtab.compress.quantize_openvino import quantize_openvino
from trimtab.recipe.schema import QuantizeOpenvino
assert "nncf" not in sys.modules, "imported before it is needed"
rows = {"input": np.load("rows.npy")}
quantize_openvino(Path(sys.argv[1]), rows, rows, QuantizeOpenvino(calibration_rows=32), Path("out/model.xml"))
import nncf.telemetry, rich
assert "Telemetry" not in vars(sys.modules["nncf.telemetry.wrapper"]), "NNCF found its telemetry"
assert logging.getLoggerClass() is logging.Logger
assert not logging.getLogger("nncf").disabled and not rich.get_console().quiet
"""


def test_quantizing_says_nothing_writes_nothing_at_home_and_leaves_loggers_as_they_were(
    fp32: Path, images: np.ndarray, tmp_path: Path
) -> None:
    # In a process of its own: under pytest NNCF switches its telemetry off by itself.
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    (work / "out").mkdir(parents=True)
    np.save(work / "rows.npy", images)
    kept_out = {"CI", "NNCF_CI", "NNCF_DEV", "XDG_CACHE_HOME"}
    environment = {key: value for key, value in os.environ.items() if key not in kept_out}
    root = str(Path(runtime.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(fp32)],
        cwd=work,
        env={**environment, "HOME": str(home), "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in (work / "out").iterdir()) == ["model.bin", "model.xml"]
    assert logging.getLoggerClass() is logging.Logger


CODE = """
import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

def split(name):
    random = np.random.default_rng({"train": 1, "validation": 2, "gate": 3}[name])
    labels = np.arange(64) % 2
    return TensorDataset(torch.from_numpy(random.normal(size=(64, 4)).astype(np.float32)), torch.from_numpy(labels))

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
"""


def workbench(folder: Path, compress: str) -> Workbench:
    (folder / "net_of_nncf.py").write_text(CODE)
    recipe = f"name: a\nmodel: net_of_nncf:build\ndata: net_of_nncf:split\ncompress: {compress}\n"
    (folder / "recipe.yaml").write_text(recipe)
    return Workbench(folder / "recipe.yaml", Settings(home=folder / "home"))


def test_fewer_training_rows_than_it_calibrates_on_are_refused_at_the_door(tmp_path: Path) -> None:
    bench = workbench(tmp_path, "{quantize: null, quantize_openvino: {minimum_rows: 65}}")
    with pytest.raises(DataError, match="64 training rows, INT8 calibration wants at least 65") as caught:
        _ = bench.splits
    assert caught.value.where == "compress.quantize_openvino.minimum_rows"


def test_a_step_makes_the_float_build_first_and_its_candidate_goes_to_openvino_alone(tmp_path: Path) -> None:

    bench = workbench(tmp_path, "{quantize_openvino: {}}")
    planned = Candidate((Step("train"),), InputsDigest("d", "w", "c", "v"))
    bench.folder(planned.id).mkdir(parents=True)
    save_candidate(bench.build(), [], bench.folder(planned.id))
    original = bench.keep(Candidate(planned.lineage, planned.inputs, "torch", folder_digests(bench.folder(planned.id))))
    step = Step("quantize_openvino", {**QuantizeOpenvino().model_dump(mode="json"), "label": "int8-nncf"})

    candidate = bench.keep(make(bench, original, [step]))

    assert bench.stored_converted(original.id, TARGET) is not None
    assert bench.stored(candidate.id) == candidate
    assert (candidate.format, sorted(candidate.files)) == ("openvino", ["model.bin", "model.xml"])
    assert precision_of(candidate) == precision([step]) == "int8-nncf"
    assert step.method in ON_THE_GRAPH
    assert convert_candidate(bench, candidate, TARGET).precision == "int8-nncf"
    with pytest.raises(UnsupportedError, match="does not carry int8-nncf"):
        convert_candidate(bench, candidate, "onnxruntime-cpu")
