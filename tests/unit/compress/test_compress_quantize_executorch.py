"""ExecuTorch's INT8: decisions are kept, layers run in integers, unfit rows and layers are refused by name."""

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

TARGET, PRECISION = "executorch-cpu", "int8-xnnpack"
SETTINGS = Quantize(calibration_rows=64)
needed = pytest.mark.skipif(bool(why_unavailable(TARGET)), reason=f"{TARGET}: {why_unavailable(TARGET)}")


def test_it_is_planned_only_where_static_int8_is_asked_for_and_the_target_is_there() -> None:
    asked = Compress(quantize_openvino=None, quantize=Quantize(calibration_rows=50, max_drop=0.01))
    steps = {step.method: step for step in on_the_graph(asked, ["onnxruntime-cpu", TARGET])}
    assert list(steps) == ["quantize", "quantize_executorch"]
    own = steps["quantize_executorch"]
    assert own.parameters == {
        "calibration": "minmax", "calibration_rows": 50, "minimum_rows": 32, "per_channel": True, "label": PRECISION,
    }  # fmt: skip
    assert precision([own]) == PRECISION
    assert own.method in ON_THE_GRAPH
    assert [lane.name for lane in lanes_of(asked, [TARGET])] == [f"fp32 on {TARGET}", f"{PRECISION} on {TARGET}"]
    for other in (Compress(quantize=None), Compress(quantize=Quantize(mode="dynamic"))):
        assert "quantize_executorch" not in [step.method for step in on_the_graph(other, [TARGET])]
    assert "quantize_executorch" not in [step.method for step in on_the_graph(asked, ["onnxruntime-cpu"])]


def quantized(
    model: nn.Module, rows: np.ndarray, folder: Path, settings: Quantize = SETTINGS, scale: float = 1
) -> dict:
    from trimtab.compress.quantize_executorch import quantize_executorch

    module = deployed(model, Preprocess(scale=scale))
    return quantize_executorch(module, {"input": rows}, {"input": rows}, settings, folder / "model.pte")


def answers(folder: Path, rows: np.ndarray) -> np.ndarray:
    return runtime.load(TARGET, folder, threads=1).predict({"input": rows})["probabilities"]


def ship(source: Path | nn.Module, out: Path, example: np.ndarray, classes: int) -> Path:
    """A build: what is served."""
    out.mkdir()
    rows = {"input": example[:4]}
    convert("c1", TARGET, source, rows, spec_of(rows, classes), out, PRECISION)
    return out


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 1, 8, 8).astype(np.float32), labels


@pytest.fixture(scope="module")
def images(digits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return digits[0][:128]


@pytest.fixture(scope="module")
def trained(digits: tuple[np.ndarray, np.ndarray]) -> nn.Module:
    """A small trained network with batch norms, for pixels from 0 to 1."""
    torch.manual_seed(0)
    rows, labels = (torch.from_numpy(values[:1000]) for values in digits)
    model = cnn(1, 10, widths=(16, 32))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(4):
        for part in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(rows[part] / 16), labels[part]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def int8(trained: nn.Module, images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The candidate's file, and its facts."""
    folder = tmp_path_factory.mktemp("int8")
    return folder / "model.pte", quantized(trained, images, folder, scale=1 / 16)


@pytest.fixture(scope="module")
def shipped(int8: tuple[Path, dict], images: np.ndarray) -> Path:
    return ship(int8[0], int8[0].parent / "shipped", images, 10)


@needed
def test_accuracy_on_unseen_rows_is_kept_and_the_file_is_small(
    trained: nn.Module, shipped: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    rows, labels = (values[1000:] for values in digits)
    module = deployed(trained, Preprocess(scale=1 / 16))
    fp32 = ship(module, tmp_path / "fp32", rows, 10)
    before, after = (answers(folder, rows).argmax(1) for folder in (fp32, shipped))

    assert (before == labels).mean() > 0.9
    assert (after == labels).mean() > (before == labels).mean() - 0.01
    assert (before == after).mean() > 0.98
    sizes = [(folder / "model.pte").stat().st_size for folder in (fp32, shipped)]
    weights = sum(weight.numel() for weight in trained.parameters() if weight.ndim > 1)
    assert sizes[0] - sizes[1] > 0.8 * 3 * weights  # four bytes became one


@needed
def test_the_facts_say_what_is_in_integers(int8: tuple[Path, dict], trained: nn.Module) -> None:
    layers = [layer for layer in trained.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    facts = int8[1]
    assert facts["precision"] == PRECISION
    assert (facts["calibration"], facts["calibration_rows"]) == ("minmax", 64)
    assert (facts["quantized_nodes"], facts["float_layers"], facts["weights_quantized"]) == (len(layers), 0, 1)


@needed
def test_any_batch_runs_and_a_row_is_answered_the_same_in_each(shipped: Path, images: np.ndarray) -> None:
    whole = answers(shipped, images)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-5)
    for rows in (1, 2, 7, 64, 65):
        np.testing.assert_allclose(answers(shipped, images[:rows]), whole[:rows], atol=1e-6)


@needed
@pytest.mark.parametrize("settings", [{"calibration": "mse"}, {"per_channel": False}])
def test_another_setting_gives_another_file_and_keeps_the_decisions(
    settings: dict, int8: tuple[Path, dict], trained: nn.Module, images: np.ndarray, tmp_path: Path
) -> None:
    quantized(trained, images, tmp_path, SETTINGS.model_copy(update=settings), scale=1 / 16)
    assert (tmp_path / "model.pte").read_bytes() != int8[0].read_bytes()
    given = answers(ship(tmp_path / "model.pte", tmp_path / "out", images, 10), images)
    with torch.inference_mode():
        expected = trained(torch.from_numpy(images) / 16).argmax(1).numpy()
    assert (given.argmax(1) == expected).mean() > 0.97


@needed
def test_the_same_rows_give_the_same_bytes(
    int8: tuple[Path, dict], trained: nn.Module, images: np.ndarray, tmp_path: Path
) -> None:
    quantized(trained, images, tmp_path, scale=1 / 16)
    assert (tmp_path / "model.pte").read_bytes() == int8[0].read_bytes()


@needed
def test_pre_processing_stays_in_float(tmp_path: Path) -> None:
    """Columns that differ by orders of magnitude before they are scaled: one range for all would round most to 0."""
    from trimtab.compress.quantize_executorch import quantize_executorch

    torch.manual_seed(0)
    rows = np.random.default_rng(0).normal(size=(128, 6)).astype(np.float32)
    scales = np.array([1e-3, 1, 1e3, 1e-2, 10, 1e4], np.float32)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    module = deployed(model, Preprocess(mean=[0.0] * 6, std=scales.tolist()))
    raw = {"input": rows * scales}
    quantize_executorch(module, raw, raw, SETTINGS, tmp_path / "model.pte")
    given = answers(ship(tmp_path / "model.pte", tmp_path / "out", raw["input"], 3), raw["input"])
    with torch.inference_mode():
        expected = module(torch.from_numpy(raw["input"])).numpy()
    assert np.abs(given - expected).max() < 0.05


@needed
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:20], "20 rows, at least 32"),
        (lambda rows: np.where(rows == rows[5, 0, 3, 3], np.nan, rows), "NaN or infinity"),
        (lambda rows: rows / 255, "the range is"),
    ],
)
def test_unfit_calibration_rows_are_refused_before_anything_is_written(
    spoil, message: str, trained: nn.Module, images: np.ndarray, tmp_path: Path
) -> None:
    from trimtab.compress.quantize_executorch import quantize_executorch

    rows = {"input": spoil(images).astype(np.float32)}
    with pytest.raises(CalibrationError, match=message):
        quantize_executorch(deployed(trained, Preprocess()), rows, {"input": images}, SETTINGS, tmp_path / "model.pte")
    assert not list(tmp_path.iterdir())


class Root(nn.Module):
    """NaN for the rows whose mean is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, value: Tensor) -> Tensor:
        flat = value.flatten(1)
        return self.head(self.body(flat) * flat.mean(1, keepdim=True).sqrt())


@needed
def test_activations_that_are_nan_for_all_rows_name_the_tensor(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no finite range") as caught:
        quantized(Root(), -1 - images, tmp_path)
    assert "sqrt" in caught.value.where
    assert not list(tmp_path.iterdir())


@needed
def test_rows_that_the_model_answers_with_nan_are_left_out_and_counted(images: np.ndarray, tmp_path: Path) -> None:
    rows = images[:64].copy()
    rows[5] = -1
    facts = quantized(Root(), rows, tmp_path)
    assert facts["notes"][0] == "the model answers NaN for 1 of 64 rows, they were left out"
    assert facts["calibration_rows"] == 63


@needed
def test_a_mask_of_minus_infinity_that_is_added_is_refused_by_name(images: np.ndarray, tmp_path: Path) -> None:
    class Masked(Root):
        def forward(self, value: Tensor) -> Tensor:
            flat = value.flatten(1)
            mask = torch.where(flat > 0, 0.0, -torch.inf)
            return self.head(self.body(torch.softmax(flat + mask, 1)))

    with pytest.raises(UnsupportedError, match="no finite range"):
        quantized(Masked(), images, tmp_path)


@needed
def test_a_calibration_that_the_quantizer_does_not_know_is_refused(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no calibration 'entropy'") as caught:
        quantized(Root(), images, tmp_path, Quantize(calibration="entropy"))
    assert "minmax or mse" in caught.value.fix


@needed
def test_a_model_without_weights_is_refused(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="0 of 0 weights quantized"):
        quantized(nn.Flatten(), images, tmp_path)


@needed
def test_other_targets_refuse_the_program_and_say_why(
    int8: tuple[Path, dict], images: np.ndarray, tmp_path: Path
) -> None:
    rows = {"input": images[:4]}
    with pytest.raises(UnsupportedError, match="does not carry int8-xnnpack") as caught:
        convert("c1", "onnxruntime-cpu", int8[0], rows, spec_of(rows, 10), tmp_path, PRECISION)
    assert caught.value.fix == "use executorch-cpu for it"


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
def test_a_step_makes_a_candidate_that_goes_to_its_own_runtime(tmp_path: Path) -> None:
    (tmp_path / "net_for_executorch.py").write_text(CODE)
    text = "name: a\nmodel: net_for_executorch:build\ndata: net_for_executorch:split\ntargets: [executorch-cpu]\n"
    (tmp_path / "recipe.yaml").write_text(text)
    bench = Workbench(tmp_path / "recipe.yaml", Settings(home=tmp_path / "home"))
    original = Candidate((Step("given"),), InputsDigest("d", "w", "c", "v"))
    folder = bench.folder(original.id)
    folder.mkdir(parents=True)
    save_candidate(bench.build(), [], folder)
    original = bench.keep(Candidate(original.lineage, original.inputs, "torch", folder_digests(folder), {}))
    step = next(step for step in on_the_graph(bench.recipe.compress, [TARGET]) if step.method == "quantize_executorch")

    made = bench.keep(make(bench, original, [step]))
    build = bench.keep_converted(convert_candidate(bench, made, TARGET))

    assert (made.format, precision_of(made), made.label) == ("executorch", PRECISION, PRECISION)
    assert made.facts["calibration_rows"] == 64
    assert set(build.files) == {"model.pte", "spec.json"}
    assert build.precision == PRECISION
    given = runtime.load(TARGET, bench.target_folder(made.id, TARGET), 1).predict(bench.example)["probabilities"]
    assert given.shape == (4, 3)
