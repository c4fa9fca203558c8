"""The release folder: the same inputs give the same bytes, and every change to it is found and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimtab.errors import RegistryError
from trimtab.registry import package
from trimtab.registry.package import Facts, Golden, check, is_contained, pack, read_golden, release_key

SPEC = {"inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3]}], "outputs": []}


def facts(**changes: Any) -> Facts:
    values: dict[str, Any] = {
        "name": "digits",
        "candidate": "0123456789abcdef",
        "label": "int8",
        "target": "onnxruntime-cpu",
        "precision": "int8",
        "threads": 1,
        "classes": 2,
        "labels": None,
        "gate": {"answer": "pass"},
        "accuracy": {"value": 0.9},
    }
    return Facts(**{**values, **changes})


def golden() -> Golden:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    return Golden({"input": rows}, {"probabilities": np.full((4, 2), 0.5, np.float32)})


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    folder = tmp_path / "converted"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "sub" / "weights č.bin").write_bytes(b"weights")
    (folder / "spec.json").write_text(json.dumps(SPEC))
    return folder


@pytest.fixture
def release(converted: Path, tmp_path: Path) -> Path:
    pack(converted, tmp_path / "release", facts(), golden(), profile=b"{}", reference=b"rows")
    return tmp_path / "release"


def test_a_packed_folder_passes_its_check_and_names_every_file(release: Path) -> None:
    assert check(release, name="digits", key=release_key(release))["candidate"] == "0123456789abcdef"
    expected = {"model.onnx", "sub/weights č.bin", "spec.json", "release.json", "golden.npz"}
    assert set(package.read_manifest(release)) == expected | {"profile.json", "reference.parquet"}
    assert package.read_spec(release) == SPEC


def test_the_same_inputs_give_the_same_bytes_and_key(converted: Path, release: Path, tmp_path: Path) -> None:
    key = pack(converted, tmp_path / "again", facts(), golden(), profile=b"{}", reference=b"rows")
    assert key == release_key(release)
    for file in package.read_manifest(release):
        assert (tmp_path / "again" / file).read_bytes() == (release / file).read_bytes()


def test_another_fact_or_row_gives_another_key(converted: Path, release: Path, tmp_path: Path) -> None:
    rows = golden()
    rows.inputs["input"][0, 0] += 1
    keys = {
        release_key(release),
        pack(converted, tmp_path / "a", facts(), golden()),
        pack(converted, tmp_path / "b", facts(threads=2), golden()),
        pack(converted, tmp_path / "c", facts(), rows),
    }
    assert len(keys) == 4


def test_profile_and_reference_may_be_files(converted: Path, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b"{}")
    by_path = pack(converted, tmp_path / "a", facts(), golden(), profile=tmp_path / "p.json")
    assert by_path == pack(converted, tmp_path / "b", facts(), golden(), profile=b"{}")


def test_what_a_release_knows_of_its_performance_is_a_file_of_it(converted: Path, tmp_path: Path) -> None:
    without = pack(converted, tmp_path / "a", facts(), golden())
    assert pack(converted, tmp_path / "b", facts(), golden(), performance=b"{}") != without
    assert (tmp_path / "b" / "performance.json").read_bytes() == b"{}"
    assert "performance.json" in package.read_manifest(tmp_path / "b")
    (converted / "performance.json").write_bytes(b"{}")
    with pytest.raises(RegistryError, match="reserved names"):
        pack(converted, tmp_path / "c", facts(), golden())


def test_golden_rows_come_back_as_they_were_and_without_pickle(release: Path) -> None:
    rows = read_golden(release)
    np.testing.assert_array_equal(rows.inputs["input"], golden().inputs["input"])
    np.testing.assert_array_equal(rows.outputs["probabilities"], golden().outputs["probabilities"])
    np.savez(release / "golden.npz", **{"inputs/x": np.array([{}], dtype=object)})
    with pytest.raises(RegistryError, match=r"golden\.npz"):
        read_golden(release)


@pytest.mark.parametrize("file", ["model.onnx", "sub/weights č.bin", "release.json", "golden.npz", "spec.json"])
def test_a_changed_or_missing_file_is_named(release: Path, file: str) -> None:
    with (release / file).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(RegistryError, match=f"{file} was changed"):
        check(release)
    (release / file).unlink()
    with pytest.raises(RegistryError, match=f"{file} is missing"):
        check(release)


@pytest.mark.parametrize("file", ["extra.txt", "sub/extra.py", ".hidden"])
def test_an_added_file_is_named(release: Path, file: str) -> None:
    (release / file).write_text("x")
    with pytest.raises(RegistryError, match=f"{file} is not in the manifest"):
        check(release)


def test_a_link_is_refused_even_to_the_same_bytes(release: Path, tmp_path: Path) -> None:
    shutil.copy(release / "model.onnx", tmp_path / "model.onnx")
    (release / "model.onnx").unlink()
    (release / "model.onnx").symlink_to(tmp_path / "model.onnx")
    with pytest.raises(RegistryError, match=r"model\.onnx is a link"):
        check(release)


def test_a_linked_folder_is_refused(release: Path, tmp_path: Path) -> None:
    shutil.move(release / "sub", tmp_path / "sub")
    (release / "sub").symlink_to(tmp_path / "sub")
    with pytest.raises(RegistryError, match="sub is a link"):
        check(release)


@pytest.mark.parametrize(
    "file",
    ["../evil", "/etc/passwd", "a/../../b", "a//b", "./a", "a/.", "", ".", "a\\b", "manifest.json", "a\nb", "a/"],
)
def test_a_manifest_with_a_path_that_is_not_plain_is_refused(release: Path, file: str) -> None:
    manifest = json.loads((release / "manifest.json").read_text())
    (release / "manifest.json").write_text(json.dumps({**manifest, file: "0" * 64}))
    with pytest.raises(RegistryError, match=r"manifest\.json"):
        check(release)


def test_plain_paths_are_contained() -> None:
    assert all(is_contained(file) for file in ("a", "a/b.c", ".hidden", "č ú.txt", "..a"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"release.json": 5}', "{"])
def test_a_manifest_that_is_none_is_refused(release: Path, text: str) -> None:
    (release / "manifest.json").write_text(text)
    with pytest.raises(RegistryError, match=r"manifest\.json"):
        check(release)


def test_another_release_is_refused_by_name_and_by_key(release: Path) -> None:
    with pytest.raises(RegistryError, match="release of 'digits', not of 'tabular'"):
        check(release, name="tabular")
    with pytest.raises(RegistryError, match="is of release"):
        check(release, key="0" * 64)


def test_a_converted_folder_without_spec_or_with_a_name_of_ours_is_refused(converted: Path, tmp_path: Path) -> None:
    (converted / "golden.npz").write_bytes(b"")
    with pytest.raises(RegistryError, match="reserved"):
        pack(converted, tmp_path / "release", facts(), golden())
    (converted / "golden.npz").unlink()
    (converted / "spec.json").unlink()
    with pytest.raises(RegistryError, match=r"no spec\.json"):
        pack(converted, tmp_path / "release", facts(), golden())
    assert not (tmp_path / "release").exists()
