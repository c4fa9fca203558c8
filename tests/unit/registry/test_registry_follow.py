"""The light reader does not trust the server: every odd answer is an error of ours, and no file leaves its folder."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from trimtab.candidate import digest_of
from trimtab.errors import RegistryError
from trimtab.registry import follow

FILES = {"release.json": b'{"name": "m"}', "sub/model č.bin": b"weights"}
MANIFEST = {file: hashlib.sha256(content).hexdigest() for file, content in FILES.items()}


class FakeServer:
    """Answers like MLflow for one release; tests change its fields to make it lie."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.manifest: Any = MANIFEST
        self.tags = [{"key": "trimtab.release_key", "value": digest_of(MANIFEST)}]
        self.uri = "mlflow-artifacts:/1/models/m-1/artifacts"
        self.alias: tuple[int, Any] = (200, {"model_version": {"version": "7"}})

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/registered-models/alias"):
            return httpx.Response(self.alias[0], json=self.alias[1])
        if path.endswith("/model-versions/get"):
            return httpx.Response(200, json={"model_version": {"version": "1", "tags": self.tags}})
        if path.endswith("/get-download-uri"):
            return httpx.Response(200, json={"artifact_uri": self.uri})
        file = path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/1/models/m-1/artifacts/artifacts/release/")
        if file == "manifest.json":
            return httpx.Response(200, content=json.dumps(self.manifest).encode())
        return httpx.Response(200, content=self.files[file]) if file in self.files else httpx.Response(404, text="no")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()

    @contextmanager
    def client(uri: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=uri, transport=httpx.MockTransport(fake.answer)) as made:
            yield made

    monkeypatch.setattr(follow, "_client", client)
    return fake


def fetch(into: Path) -> dict[str, Any]:
    return follow.download("http://mlflow", "m", 1, into)


def test_a_whole_release_arrives_as_it_was(server: FakeServer, tmp_path: Path) -> None:
    assert fetch(tmp_path / "into") == {"name": "m"}
    assert (tmp_path / "into" / "sub" / "model č.bin").read_bytes() == b"weights"


@pytest.mark.parametrize("file", ["../evil", "/evil", "sub/../../evil", "a\\..\\evil"])
def test_a_file_name_that_leaves_the_folder_is_refused_and_nothing_is_written(
    server: FakeServer, tmp_path: Path, file: str
) -> None:
    server.manifest = {**MANIFEST, file: hashlib.sha256(b"x").hexdigest()}
    server.files[file] = b"x"
    with pytest.raises(RegistryError, match="not a file inside"):
        fetch(tmp_path / "deep" / "into")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_changed_file_is_named_and_what_was_there_before_stays(server: FakeServer, tmp_path: Path) -> None:
    fetch(tmp_path / "into")
    server.files["sub/model č.bin"] = b"Weights"
    with pytest.raises(RegistryError, match=r"model č\.bin was changed"):
        fetch(tmp_path / "into")
    assert (tmp_path / "into" / "sub" / "model č.bin").read_bytes() == b"weights"
    assert [path.name for path in tmp_path.iterdir()] == ["into"]


def test_a_manifest_other_than_the_tag_says_is_refused(server: FakeServer, tmp_path: Path) -> None:
    server.manifest = {"release.json": MANIFEST["release.json"]}
    with pytest.raises(RegistryError, match="is of release"):
        fetch(tmp_path / "into")


def test_a_missing_file_and_a_version_that_is_not_ours_are_refused(server: FakeServer, tmp_path: Path) -> None:
    del server.files["sub/model č.bin"]
    with pytest.raises(RegistryError, match="404"):
        fetch(tmp_path / "into")
    server.tags = []
    with pytest.raises(RegistryError, match=r"no tag trimtab\.release_key"):
        fetch(tmp_path / "into")


def test_artifacts_that_the_server_does_not_hand_out_are_refused_by_their_address(
    server: FakeServer, tmp_path: Path
) -> None:
    server.uri = "file:///etc"
    with pytest.raises(RegistryError, match="file:///etc"):
        fetch(tmp_path / "into")


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"])
def test_no_alias_and_no_release_are_none(server: FakeServer, code: str) -> None:
    server.alias = (400, {"error_code": code, "message": "Registered model alias champion not found."})
    assert follow.current_champion("http://mlflow", "m") is None


@pytest.mark.parametrize(
    "answer",
    [
        (500, {"error_code": "INTERNAL_ERROR"}),
        (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "bad name"}),
        (200, []),
        (200, {}),
        (200, {"model_version": {"version": "x"}}),
    ],
)
def test_any_other_answer_is_an_error_not_none(server: FakeServer, answer: tuple[int, Any]) -> None:
    server.alias = answer
    with pytest.raises(RegistryError):
        follow.current_champion("http://mlflow", "m")


def test_a_server_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(RegistryError) as caught:
        follow.current_champion("http://127.0.0.1:9", "m")
    assert caught.value.where == "http://127.0.0.1:9"


def test_following_imports_no_mlflow() -> None:
    code = "import sys, trimtab.registry.follow; print(sorted({'mlflow', 'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
