"""What a folder for OpenVINO may hold: the compressed model, or the plain one of an older release."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13

from trimtab.runtime.child import Child
from trimtab.runtime.openvino_cpu import Predictor, read_model

ROWS = {"input": np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)}
SPEC = (
    '{"inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 4]}],'
    ' "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}]}'
)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder as releases had it: model.xml, model.bin, spec.json."""
    value = opset13.parameter([-1, 4], np.float32, "input")
    value.output(0).get_tensor().set_names({"input"})
    weights = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    answer = opset13.softmax(opset13.matmul(value, opset13.constant(weights), False, False), 1)
    answer.output(0).get_tensor().set_names({"probabilities"})
    openvino.save_model(openvino.Model([answer], [value]), str(tmp_path / "model.xml"), compress_to_fp16=False)
    (tmp_path / "spec.json").write_text(SPEC)
    return tmp_path


def compress(folder: Path) -> None:
    plain = folder / "model.xml"
    (folder / "model.xml.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


def test_an_older_release_with_a_plain_model_answers_as_the_compressed_one_does(older: Path) -> None:
    before = Predictor.load(older, threads=1).predict(ROWS)["probabilities"]
    compress(older)
    after = Predictor.load(older, threads=1).predict(ROWS)["probabilities"]

    assert before.shape == (5, 3)
    np.testing.assert_array_equal(before, after)


def test_a_loaded_model_does_not_need_its_files_any_more(older: Path) -> None:
    compress(older)
    predictor = Predictor.load(older, threads=1)
    expected = predictor.predict(ROWS)["probabilities"]
    for path in older.iterdir():
        path.unlink()

    np.testing.assert_array_equal(predictor.predict(ROWS)["probabilities"], expected)


def test_a_model_cut_short_is_refused_when_it_is_opened(older: Path) -> None:
    compress(older)
    whole = (older / "model.xml.gz").read_bytes()
    (older / "model.xml.gz").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(EOFError):
        read_model(older)


def test_compressed_weights_cut_short_are_refused(older: Path) -> None:
    compress(older)
    whole = gzip.compress((older / "model.bin").read_bytes())
    (older / "model.bin.gz").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(EOFError):
        read_model(older)


def test_weights_that_are_missing_are_refused(older: Path) -> None:
    compress(older)
    (older / "model.bin").unlink()

    with pytest.raises(FileNotFoundError):
        read_model(older)


def test_serving_an_openvino_model_imports_no_quantizer(older: Path) -> None:
    compress(older)
    code = (
        "import sys; from pathlib import Path; import trimtab.serving.run, trimtab.runtime\n"
        f"trimtab.runtime.load('openvino-cpu', Path({str(older)!r}), threads=1)\n"
        "print(sorted({'nncf', 'optuna', 'torch'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "[]\n"


def test_processes_that_share_the_weights_file_answer_as_one_that_reads_it(older: Path) -> None:
    for make in (lambda folder: None, compress):
        make(older)
        expected = Predictor.load(older, threads=1).predict(ROWS)["probabilities"]
        children = [Child("openvino-cpu", older, 1) for _ in range(2)]
        try:
            for child in children:
                child.load()
            assert all("model.bin" in Path(f"/proc/{child.pid}/maps").read_text() for child in children)
            for child in children:
                np.testing.assert_array_equal(child.predict(ROWS)["probabilities"], expected)
        finally:
            for child in children:
                child.kill()
                child.wait()


def test_mapped_weights_live_as_long_as_the_predictor_and_no_longer(older: Path) -> None:
    """In a process of its own: what is wrong here ends in a segmentation fault."""
    compress(older)
    code = f"""
import gc
from pathlib import Path
import numpy as np
from trimtab.runtime.openvino_cpu import Predictor
folder, maps = Path({str(older)!r}), Path("/proc/self/maps")
predictor = Predictor.load_shared(folder, 1)
for path in folder.iterdir():
    path.unlink()
gc.collect()
print("model.bin" in maps.read_text())
assert predictor.predict({{"input": np.ones((2, 4), np.float32)}})["probabilities"].shape == (2, 3)
del predictor
gc.collect()
print("model.bin" in maps.read_text())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "False"]


def test_a_model_without_weights_is_loaded_as_ever(older: Path) -> None:
    value = opset13.parameter([-1, 4], np.float32, "input")
    value.output(0).get_tensor().set_names({"input"})
    answer = opset13.softmax(value, 1)
    answer.output(0).get_tensor().set_names({"probabilities"})
    openvino.save_model(openvino.Model([answer], [value]), str(older / "model.xml"), compress_to_fp16=False)
    compress(older)
    (older / "model.bin").write_bytes(b"")

    assert Predictor.load_shared(older, threads=1).predict(ROWS)["probabilities"].shape == (5, 4)
