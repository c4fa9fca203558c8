"""The files of an OpenVINO build: small, the same bytes each time, and named after the model alone."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trimtab import runtime
from trimtab.candidate import Converted
from trimtab.convert import carries, convert, openvino_format
from trimtab.convert.graph import deployed, spec_of
from trimtab.convert.openvino_format import save
from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import Preprocess
from trimtab.runtime import openvino_cpu
from trimtab.runtime.openvino_cpu import read_model
from trimtab.serving.golden import TOLERANCE
from trimtab.targets import PRECISIONS

EXAMPLE = {"input": np.random.default_rng(0).standard_normal((4, 1, 6, 6)).astype(np.float32)}
SPEC = spec_of(EXAMPLE, 3)
TARGET = "openvino-cpu"


def net() -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()]
    return deployed(nn.Sequential(*body, nn.Linear(128, 3)), Preprocess(scale=0.5, mean=[0.1], std=[2.0]))


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Converted]:
    folder = tmp_path_factory.mktemp("fp32")
    return folder, convert("c0", TARGET, net(), EXAMPLE, SPEC, folder)


def test_the_model_is_shipped_compressed_and_counts_as_it_is_shipped(fp32: tuple[Path, Converted]) -> None:
    folder, record = fp32

    assert sorted(record.files) == ["model.bin", "model.xml.gz", "spec.json"]
    compressed = (folder / "model.xml.gz").read_bytes()
    assert record.size_bytes == len(compressed) + (folder / "model.bin").stat().st_size
    assert len(compressed) < len(gzip.decompress(compressed)) / 5


def test_a_second_conversion_gives_the_same_bytes_whenever_it_is_made(
    fp32: tuple[Path, Converted], tmp_path: Path
) -> None:
    # OpenVINO counts the nodes it makes over the whole process, and gzip would write the time.
    again = convert("c0", TARGET, net(), EXAMPLE, SPEC, tmp_path)

    assert again.files == fp32[1].files
    assert (tmp_path / "model.xml.gz").read_bytes()[4:8] == bytes(4)


def test_an_input_keeps_a_name_that_looks_like_a_counted_one(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, ids_1: Tensor, mask: Tensor) -> Tensor:
            return self.linear(ids_1 * mask)

    example = {name: np.ones((4, 4), np.float32) for name in ("ids_1", "mask")}
    convert("c0", TARGET, deployed(Two(), Preprocess()), example, spec_of(example, 3), tmp_path)

    parameters = [op for op in read_model(tmp_path).get_ordered_ops() if op.get_type_name() == "Parameter"]
    assert sorted(op.get_friendly_name() for op in parameters) == ["ids_1", "mask"]


def test_layers_have_names_of_their_own_that_no_counter_decides(fp32: tuple[Path, Converted]) -> None:
    names = [op.get_friendly_name() for op in read_model(fp32[0]).get_ordered_ops()]
    assert "Convolution:1" in names  # its own name is lost when the batch norm is folded into it
    assert len(set(names)) == len(names)


@pytest.fixture
def of_nncf(fp32: tuple[Path, Converted], tmp_path: Path) -> Path:
    """The model.xml of a candidate in OpenVINO's format (not quantized: here only its files matter)."""
    (tmp_path / "candidate").mkdir()
    save(read_model(fp32[0]), tmp_path / "candidate" / "model.xml")
    return tmp_path / "candidate" / "model.xml"


def test_an_openvino_candidate_is_copied_as_it_is(of_nncf: Path, fp32: tuple[Path, Converted], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    record = convert("c1", TARGET, of_nncf, EXAMPLE, SPEC, tmp_path / "out", "int8-nncf")

    assert record.precision == "int8-nncf"
    assert gzip.decompress((tmp_path / "out" / "model.xml.gz").read_bytes()) == of_nncf.read_bytes()
    assert (tmp_path / "out" / "model.bin").read_bytes() == of_nncf.with_name("model.bin").read_bytes()
    answers = [
        runtime.load(TARGET, folder, threads=1).predict(EXAMPLE)["probabilities"]
        for folder in (fp32[0], tmp_path / "out")
    ]
    np.testing.assert_array_equal(*answers)


def test_weights_are_compressed_where_it_pays_and_answer_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = net()
    with torch.no_grad():
        for weights in module.parameters():
            weights.copy_((weights * 16).round() / 16)  # few values, as INT8 weights have
    (tmp_path / "packed").mkdir()
    (tmp_path / "plain").mkdir()
    packed = convert("c0", TARGET, module, EXAMPLE, SPEC, tmp_path / "packed")
    monkeypatch.setattr(openvino_format, "COMPRESSED_BYTES", 0)
    plain = convert("c0", TARGET, module, EXAMPLE, SPEC, tmp_path / "plain")

    assert sorted(packed.files) == ["model.bin.gz", "model.xml.gz", "spec.json"]
    assert sorted(plain.files) == ["model.bin", "model.xml.gz", "spec.json"]
    assert (tmp_path / "packed" / "model.bin.gz").read_bytes()[4:8] == bytes(4)
    assert packed.size_bytes < plain.size_bytes
    loaders = (openvino_cpu.Predictor.load, openvino_cpu.Predictor.load_shared)
    answers = [
        load(tmp_path / folder, threads=1).predict(EXAMPLE)["probabilities"]
        for folder in ("packed", "plain")
        for load in loaders
    ]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answers[0], answer)


def test_writing_over_a_model_leaves_no_weights_of_it(fp32: tuple[Path, Converted], tmp_path: Path) -> None:
    (tmp_path / "model.bin.gz").write_bytes(gzip.compress(b"of another model"))
    openvino_format.write_compressed(read_model(fp32[0]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml.gz"]


@pytest.mark.parametrize(("target", "why"), [("onnxruntime-cpu", "cannot read"), ("torchscript-cpu", "TorchScript")])
def test_other_targets_refuse_an_openvino_candidate_and_say_why(
    of_nncf: Path, tmp_path: Path, target: str, why: str
) -> None:
    (tmp_path / "out").mkdir()
    assert not carries(target, "int8-nncf")
    with pytest.raises(UnsupportedError, match=rf"does not carry int8-nncf: .*{why}") as caught:
        convert("c1", target, of_nncf, EXAMPLE, SPEC, tmp_path / "out", "int8-nncf")
    assert caught.value.fix == "use openvino-cpu for it"


def test_a_release_of_every_precision_that_a_target_carries_can_be_opened_by_the_service() -> None:
    assert set(PRECISIONS) == TOLERANCE.keys()
