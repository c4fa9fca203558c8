"""Targets that this machine cannot run: said at the door, with the command; never another provider instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trimtab import runtime
from trimtab.errors import UnsupportedError
from trimtab.runtime import availability, onnxruntime_session
from trimtab.runtime.availability import installed, refuse_unavailable, why_unavailable
from trimtab.runtime.matrix import markdown, rows
from trimtab.targets import TARGETS

PAGE = Path(__file__).parents[3] / "docs" / "targets.md"


def test_a_missing_distribution_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(availability, "installed", lambda name: None if name == "openvino" else "1.0")
    with pytest.raises(UnsupportedError, match="not installed: openvino") as caught:
        refuse_unavailable("openvino-cpu")
    assert caught.value.fix.startswith(TARGETS["openvino-cpu"].install)
    with pytest.raises(UnsupportedError, match="not installed: openvino"):
        runtime.load("openvino-cpu", tmp_path, threads=1)


def test_the_gpu_build_of_onnx_runtime_serves_the_cpu_target_too(monkeypatch: pytest.MonkeyPatch):
    def version(name: str) -> str:
        if name == "onnxruntime-gpu":
            return "1.32.0"
        raise availability.PackageNotFoundError(name)

    monkeypatch.setattr(availability, "version", version)
    assert installed("onnxruntime") == "1.32.0"


@pytest.mark.parametrize("target", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_without_a_device_is_not_available(target: str, monkeypatch: pytest.MonkeyPatch):
    provider = {"onnxruntime-cuda": "CUDAExecutionProvider", "onnxruntime-tensorrt": "TensorrtExecutionProvider"}[
        target
    ]
    monkeypatch.setattr(availability, "installed", lambda name: "1.0")
    offered = monkeypatch.setattr
    offered(onnxruntime_session.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert f"not {provider}" in why_unavailable(target)
    offered(onnxruntime_session.onnxruntime, "get_available_providers", lambda: [provider, "CPUExecutionProvider"])
    offered(onnxruntime_session, "cuda_devices", lambda: 0)
    assert "no CUDA device" in why_unavailable(target)
    offered(onnxruntime_session, "cuda_devices", lambda: 1)
    assert why_unavailable(target) == ""


def test_a_silent_fall_back_to_another_provider_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    class Fallen:
        def __init__(self, *_: object, **__: object) -> None: ...

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime_session.onnxruntime, "InferenceSession", Fallen)
    providers = (("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {}))
    with pytest.raises(RuntimeError, match="fell back from CUDAExecutionProvider"):
        onnxruntime_session.new_session(tmp_path / "model.onnx", 1, providers)


def test_the_page_on_targets_holds_the_table_of_the_code():
    found = re.search(r"<!-- targets -->\n(.*)<!-- /targets -->", PAGE.read_text(), re.S)
    assert found is not None
    assert found[1] == markdown()


def test_the_matrix_says_of_every_target_what_it_carries_and_what_is_installed():
    found = {row.target: row for row in rows()}
    assert list(found) == list(TARGETS)
    assert found["openvino-cpu"].carries["int8-nncf"]
    assert not found["torch-export-cpu"].carries["int8"]
    for row in found.values():
        assert all(row.carries.values()) or row.why_not
        assert row.unavailable or None not in row.installed.values()


@pytest.mark.parametrize("entry", TARGETS.values(), ids=TARGETS)
def test_every_entry_names_files_that_are_there(entry):
    package = Path(runtime.__file__).parents[1]
    stems = [f"convert/{entry.converter}", f"runtime/{entry.runtime}", *(f"runtime/{part}" for part in entry.parts)]
    assert [stem for stem in stems if not (package / f"{stem}.py").is_file()] == []
