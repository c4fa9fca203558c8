"""A predictor in a process of its own: the same answers, by way of memory that both see, and a clear end."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from trimtab.runtime import onnxruntime_cpu
from trimtab.runtime.child import Child, NotAsked, WorkerDied, WorkerFailed
from trimtab.runtime.door import InputError
from trimtab.runtime.shared import ALIGNMENT, Region

WIDTH = 3


def write_model(folder: Path) -> Path:
    """x → x[indices % rows of x], so that a model can be made to raise: index 99 is beyond any batch of the tests."""
    folder.mkdir()
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH]),
        helper.make_tensor_value_info("at", TensorProto.INT64, ["batch"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])]
    graph = helper.make_graph([helper.make_node("Gather", ["x", "at"], ["y"], axis=0)], "pick", inputs, outputs)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    spec = {
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": ["batch", WIDTH]},
            {"name": "at", "dtype": "int64", "shape": ["batch"]},
        ],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", WIDTH]}],
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def rows(count: int) -> dict[str, np.ndarray]:
    x = np.arange(count * WIDTH, dtype=np.float32).reshape(count, WIDTH)
    return {"x": x, "at": np.arange(count)[::-1].astype(np.int64)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("child") / "model")


@pytest.fixture(scope="module")
def child(folder):
    process = Child("onnxruntime-cpu", folder, 1)
    process.load()
    yield process
    process.kill()
    process.wait()


def test_it_answers_as_the_same_file_does_here_at_any_size(folder, child):
    here = onnxruntime_cpu.Predictor.load(folder, 1)
    for count in (1, 33, 50_000, 2):  # the memory grows, and what follows is not mixed with what was there
        np.testing.assert_array_equal(child.predict(rows(count))["y"], here.predict(rows(count))["y"])
    assert child.spec == here.spec


def test_answers_are_copies_that_the_next_call_does_not_change(child):
    first = child.predict(rows(2))["y"]
    kept = first.copy()
    child.predict({"x": np.full((2, WIDTH), 7, np.float32), "at": np.zeros(2, np.int64)})
    np.testing.assert_array_equal(first, kept)


def test_what_the_model_raises_is_told_by_its_name_and_the_process_goes_on(child):
    with pytest.raises(WorkerFailed) as caught:
        child.predict({**rows(2), "at": np.full(2, 99, np.int64)})
    assert caught.value.kind == "InvalidArgument"
    with pytest.raises(InputError, match="shape does not fit"):
        child.predict({**rows(2), "x": np.zeros((2, 1), np.float32)})
    assert child.usable
    assert child.predict(rows(2))["y"].shape == (2, WIDTH)


def test_it_imports_nothing_of_ours_and_nothing_heavy_and_keeps_to_its_threads(child):
    maps = Path(f"/proc/{child.pid}/maps")
    if not maps.exists():
        pytest.skip("no /proc")
    loaded = maps.read_text()
    assert "onnxruntime" in loaded
    assert not [name for name in ("libtorch", "pydantic", "pandas", "orjson") if name in loaded]
    environment = Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
    assert b"OMP_NUM_THREADS=1" in environment


def test_a_signal_to_end_leaves_it_to_its_parent(child):
    os.kill(child.pid, signal.SIGTERM)
    os.kill(child.pid, signal.SIGINT)
    assert child.predict(rows(1))["y"].shape == (1, WIDTH)


def test_killed_while_it_answers_and_killed_before(folder):
    process = Child("onnxruntime-cpu", folder, 1)
    process.load()
    os.kill(process.pid, signal.SIGSTOP)
    threading.Timer(0.2, process.kill).start()
    with pytest.raises(WorkerDied) as caught:
        process.predict(rows(1))
    assert not isinstance(caught.value, NotAsked)
    assert not process.usable
    assert process.wait() == "signal SIGKILL"
    with pytest.raises(NotAsked):
        process.predict(rows(1))


def test_one_that_cannot_be_started_leaves_nothing_open(folder, monkeypatch):
    def no_memory(*arguments, **more):
        raise OSError("cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", no_memory)
    gc.collect()  # what tests before this one left behind is not to be closed in between
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match="allocate"):
            Child("onnxruntime-cpu", folder, 1)
    assert len(os.listdir("/dev/fd")) == before


def test_what_cannot_be_loaded_is_told_in_its_words(folder, tmp_path):
    (tmp_path / "spec.json").write_bytes((folder / "spec.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    process = Child("onnxruntime-cpu", tmp_path, 1)
    with pytest.raises(WorkerFailed, match="Protobuf parsing failed"):
        process.load()
    assert process.wait() == "code 0"


def test_it_ends_with_its_parent_however_that_ends_and_whatever_it_does(folder):
    code = f"""
import os, signal, threading
from pathlib import Path
from trimtab.runtime.child import Child
children = [Child("onnxruntime-cpu", Path({str(folder)!r}), 1) for _ in range(2)]
for child in children:
    child.load()
os.kill(children[0].pid, signal.SIGSTOP)  # busy: it reads no socket
print(*(child.pid for child in children), flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
        parent.wait()
    assert len(pids) == 2
    deadline = time.monotonic() + 30
    while [pid for pid in pids if _runs(pid)] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


NUMBERS = st.sampled_from(["float32", "float64", "int64", "int8", "uint16", "bool"]).map(np.dtype)
ARRAYS = NUMBERS.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=9)))


@settings(max_examples=60, deadline=None)
@given(st.lists(ARRAYS, max_size=4), st.integers(0, 200))
def test_arrays_come_out_as_they_went_in(values, start):
    ours = Region.new()
    theirs = Region(os.dup(ours.descriptor))
    try:
        named = {f"a{index}": value for index, value in enumerate(values)}
        placed, end = ours.put(named, start)
        found = theirs.views(json.loads(json.dumps(placed)))
        assert list(found) == list(named)
        for name, value in named.items():
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)
        assert all(begin % ALIGNMENT == 0 for *_, begin in placed)
        assert end >= start
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize(
    "placed",
    [["a", "float32", [2**40], 0], ["a", "float32", [1], 2**20], ["a", "float32", [1], -64], ["a", "float32", [-1], 0],
     ["a", "object", [1], 0], ["a", "U8", [1], 0], ["a", "nonsense", [1], 0], ["a", "float32", ["1"], 0]],
)  # fmt: skip
def test_a_description_of_what_is_not_there_is_refused(placed):
    memory = Region.new()
    memory.put({"x": np.zeros(4, np.float32)})
    with pytest.raises((ValueError, TypeError)):
        memory.views([placed])
    memory.close()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no sealed memory here")
def test_neither_side_can_cut_the_memory_off():
    memory = Region.new()
    memory.put({"x": np.zeros(4, np.float32)})
    with pytest.raises(PermissionError):
        os.ftruncate(memory.descriptor, 0)
    memory.close()
