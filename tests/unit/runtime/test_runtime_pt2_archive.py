"""A `.pt2` archive with anything in it besides a graph of tensor operations is refused before torch.export reads it."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.pt2_archive import _is_size, check_archive, open_program

MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("pt2")
    example = {"input": np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32)}
    torch.manual_seed(0)
    module = deployed(nn.Sequential(nn.Flatten(), nn.Linear(15, 3)), Preprocess(mean=[0.5]))
    convert("c0", "torch-export-cpu", module, example, spec_of(example, 3), out)
    return (out / "model.pt2").read_bytes()


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def rewritten(archive: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    reader = torch._C.PyTorchFileReader(io.BytesIO(archive))
    records = {name: reader.get_record(name) for name in reader.get_all_records()}
    change(records)
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name, data in records.items():
        if name not in (".data/version", ".data/serialization_id", "version", "byteorder"):
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return buffer.getvalue()


def in_json(record: str, old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def change(records: dict[str, bytes]) -> None:
        text = records[record].decode()
        assert old in text
        records[record] = text.replace(old, new, 1).encode()

    return change


def extra(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda records: records.update({name: data})


def in_model(**values: Any) -> Callable[[dict[str, bytes]], None]:
    return lambda records: records.update({MODEL: json.dumps({**json.loads(records[MODEL]), **values}).encode()})


CASES: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "sample inputs": (extra("data/sample_inputs/model.pt", pickle.dumps(Bomb())), "pickled sample inputs"),
    "legacy weights": (extra("data/weights/model.pt", pickle.dumps(Bomb())), "a record"),
    "custom object": (extra("data/constants/custom_obj_0", b"x"), "a record"),
    "shared library": (extra("data/aotinductor/model/model.so", b"x"), "a record"),
    "pickled weight": (in_json(WEIGHTS, '"use_pickle": false', '"use_pickle": true'), "a pickled or misnamed tensor"),
    "a call": (in_json(MODEL, "torch.ops.aten.linear.default", "torch.hub.load"), "a call of 'torch.hub.load'"),
    "a file": (in_json(MODEL, "torch.ops.aten.linear.default", "torch.ops.aten.from_file.default"), "from_file"),
    "a size": (in_json(MODEL, "Symbol('s", "__import__('os').getcwd() or Symbol('s"), "a size"),
    "a name": (in_json(MODEL, '"name": "linear"', '"name": "linear = 1; import os #"'), "a name"),
    "guards": (in_model(guards_code=["__import__('os')"]), "guards"),
    "a container": (in_json(MODEL, "builtins.tuple", "collections.defaultdict"), "a container"),
}


def test_the_archive_as_written_is_read_and_names_no_file_of_this_machine(archive: bytes):
    check_archive(archive)
    check_archive(rewritten(archive, lambda records: None))
    given = open_program(archive).module()(torch.zeros(3, 5, 3))
    assert given.shape == (3, 3)
    assert b".py" not in archive


@pytest.mark.parametrize("case", CASES)
def test_what_could_run_code_is_refused_by_name(
    case: str, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    change, message = CASES[case]
    with pytest.raises(ValueError, match="only a graph of ATen operations") as caught:
        open_program(rewritten(archive, change))
    assert message in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def test_a_size_that_does_not_fit_is_refused_at_once_however_long_and_powers_never_pass():
    assert not _is_size("1" * 200 + "x")  # a pattern that backtracks would never come to an end
    assert not _is_size("9**9**9**9")
    assert _is_size("Mul(Integer(8), Symbol('s48', positive=True, integer=True))")
