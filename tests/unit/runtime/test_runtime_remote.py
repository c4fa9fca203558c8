"""A predictor in a child process: the same answers, arrays whole, and a clear end. It runs ONNX Runtime's file here."""

import io
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trimtab.convert import convert
from trimtab.convert.graph import spec_of
from trimtab.errors import StateError
from trimtab.runtime import onnxruntime_cpu
from trimtab.runtime.door import InputError
from trimtab.runtime.pipe import receive, send
from trimtab.runtime.remote import Predictor

EXAMPLE = {"input": np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.linear(x), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    convert("c0", "onnxruntime-cpu", Net().eval(), EXAMPLE, spec_of(EXAMPLE, 3), out)
    return out


@pytest.fixture
def remote(folder: Path):
    predictor = Predictor(Path(sys.executable), "onnxruntime-cpu", folder, threads=1)
    yield predictor
    predictor.close()


def test_it_answers_as_the_same_file_does_here(folder: Path, remote: Predictor):
    here = onnxruntime_cpu.Predictor.load(folder, threads=1)
    for rows in (1, 2, 33):
        inputs = {"input": np.random.default_rng(rows).standard_normal((rows, 5)).astype(np.float32)}
        np.testing.assert_array_equal(remote.predict(inputs)["probabilities"], here.predict(inputs)["probabilities"])
    assert remote.spec == here.spec
    with pytest.raises(InputError, match="shape does not fit"):
        remote.predict({"input": np.zeros((2, 4), np.float32)})
    remote.predict(EXAMPLE)  # a refusal leaves nothing in the pipe


def test_a_child_that_dies_is_told_and_not_waited_for(remote: Predictor):
    os.kill(remote.pid, signal.SIGKILL)
    with pytest.raises(StateError, match="is gone"):
        remote.predict(EXAMPLE)


def test_closing_it_ends_the_child(remote: Predictor):
    remote.close()
    with pytest.raises(ProcessLookupError):
        os.kill(remote.pid, 0)
    with pytest.raises(StateError):
        remote.predict(EXAMPLE)


def test_what_cannot_be_loaded_is_told_in_the_childs_words(tmp_path: Path, folder: Path):
    (tmp_path / "spec.json").write_bytes((folder / "spec.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    started = time.monotonic()
    with pytest.raises(StateError, match=r"failed: .*model\.onnx"):
        Predictor(Path(sys.executable), "onnxruntime-cpu", tmp_path, threads=1)
    assert time.monotonic() - started < 30


VALUES = st.sampled_from([np.float32, np.int64, np.bool_]).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=4), st.text(max_size=20))
def test_arrays_come_through_a_pipe_as_they_were(values: dict, word: str):
    stream = io.BytesIO()
    send(stream, values, error=word)
    send(stream, {})
    stream.seek(0)
    given, header = receive(stream) or ({}, {})
    assert header == {"error": word}
    assert list(given) == list(values)
    for name, value in values.items():
        assert given[name].dtype == value.dtype
        np.testing.assert_array_equal(given[name], value)
    assert receive(stream) == ({}, {})
    assert receive(stream) is None


@pytest.mark.parametrize("cut", [1, 3, 5, 40, -1])
def test_a_message_cut_short_is_an_error_and_not_an_end(cut: int):
    stream = io.BytesIO()
    send(stream, {"a": np.arange(9.0)})
    with pytest.raises((EOFError, ValueError)):
        receive(io.BytesIO(stream.getvalue()[:cut]))
