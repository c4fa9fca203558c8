"""The light reader does not trust the server: every odd answer is an error of ours, and no file leaves its folder."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256

from trimtab.candidate import digest_of
from trimtab.errors import RegistryError
from trimtab.registry import follow
from trimtab.registry.keys import Keyring
from trimtab.registry.package import SIGNATURE
from trimtab.registry.signing import _enveloped, sign_folder

FILES = {"release.json": b'{"name": "m"}', "sub/model č.bin": b"weights"}
MANIFEST = {file: hashlib.sha256(content).hexdigest() for file, content in FILES.items()}
ROOT = "/api/2.0/mlflow-artifacts/artifacts/1/models/m-1/artifacts/"


class FakeServer:
    """Answers like MLflow for one release; tests change its fields to make it lie."""

    def __init__(self, folder: Path) -> None:
        self.keys, self.folder = Keyring(folder / "keys"), folder
        self.files = dict(FILES)
        self.outside = {"loader.py": b"loader", "MLmodel": b"flavors"}
        self.manifest: Any = MANIFEST
        self.signature = b""
        self.model_signature = b""
        self.sign()
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
        asked = path.removeprefix(ROOT)
        inside = asked.startswith("artifacts/release/")
        file = asked.removeprefix("artifacts/release/")
        if file == SIGNATURE:
            content: bytes | None = (self.signature if inside else self.model_signature) or None
        elif inside:
            content = self.manifest_bytes() if file == "manifest.json" else self.files.get(file)
        else:
            content = self.outside.get(file)
        return httpx.Response(404, text="no") if content is None else httpx.Response(200, content=content)

    def manifest_bytes(self) -> bytes:
        return json.dumps(self.manifest).encode()

    def sign(self, keys: Keyring | None = None) -> None:
        """Sign what is there now, as a registration would."""
        model = self.folder / "signed"
        shutil.rmtree(model, ignore_errors=True)
        release = model / "artifacts" / "release"
        for folder, files in ((release, {**self.files, "manifest.json": self.manifest_bytes()}), (model, self.outside)):
            for file, content in files.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(content)
        sign_folder(release, "m", keys or self.keys)
        sign_folder(model, "m", keys or self.keys)
        self.signature, self.model_signature = (release / SIGNATURE).read_bytes(), (model / SIGNATURE).read_bytes()
        shutil.rmtree(model)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> FakeServer:
    fake = FakeServer(tmp_path_factory.mktemp("server"))

    @contextmanager
    def client(uri: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=uri, transport=httpx.MockTransport(fake.answer)) as made:
            yield made

    monkeypatch.setattr(follow, "rest", client)
    return fake


def fetch(server: FakeServer, into: Path) -> dict[str, Any]:
    return follow.download("http://mlflow", "m", 1, into, server.keys)


def test_a_whole_release_arrives_as_it_was(server: FakeServer, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "into") == {"name": "m"}
    assert (tmp_path / "into" / "sub" / "model č.bin").read_bytes() == b"weights"


@pytest.mark.parametrize("file", ["../evil", "/evil", "sub/../../evil", "a\\..\\evil"])
def test_a_file_name_that_leaves_the_folder_is_refused_and_nothing_is_written(
    server: FakeServer, tmp_path: Path, file: str
) -> None:
    """Also if it is signed: the key may have signed elsewhere."""
    bundle = json.loads(server.signature)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"]["resources"].append({"name": file, "algorithm": "sha256", "digest": "0" * 64})
    payload = json.dumps(statement).encode()
    signature = server.keys.signer().sign(_enveloped(payload), ECDSA(SHA256()))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"] = [{"sig": base64.b64encode(signature).decode(), "keyid": ""}]
    server.signature = json.dumps(bundle).encode()
    server.files[file] = b"x"
    with pytest.raises(RegistryError, match="does not name plain files"):
        fetch(server, tmp_path / "deep" / "into")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_changed_file_is_named_and_what_was_there_before_stays(server: FakeServer, tmp_path: Path) -> None:
    fetch(server, tmp_path / "into")
    server.files["sub/model č.bin"] = b"Weights"
    with pytest.raises(RegistryError, match=r"model č\.bin was changed"):
        fetch(server, tmp_path / "into")
    assert (tmp_path / "into" / "sub" / "model č.bin").read_bytes() == b"weights"
    assert [path.name for path in tmp_path.iterdir()] == ["into"]


def test_a_manifest_other_than_the_tag_says_is_refused(server: FakeServer, tmp_path: Path) -> None:
    other = hashlib.sha256(b"Weights").hexdigest()
    server.manifest, server.files["sub/model č.bin"] = {**MANIFEST, "sub/model č.bin": other}, b"Weights"
    server.sign()
    with pytest.raises(RegistryError, match="is of release"):
        fetch(server, tmp_path / "into")


def test_a_missing_file_and_a_version_that_is_not_ours_are_refused(server: FakeServer, tmp_path: Path) -> None:
    del server.files["sub/model č.bin"]
    with pytest.raises(RegistryError, match="404"):
        fetch(server, tmp_path / "into")
    server.tags = []
    with pytest.raises(RegistryError, match=r"no tag trimtab\.release_key"):
        fetch(server, tmp_path / "into")


def test_a_release_that_is_not_signed_or_signed_by_somebody_else_is_refused_before_a_file_is_fetched(
    server: FakeServer, tmp_path: Path
) -> None:
    whole, server.files = server.files, {}  # asking for one of them would be another error
    server.sign(Keyring(tmp_path / "theirs"))
    with pytest.raises(RegistryError, match="not trusted here"):
        fetch(server, tmp_path / "into")
    server.signature, server.files = b"", whole
    with pytest.raises(RegistryError, match="it is not signed") as caught:
        fetch(server, tmp_path / "into")
    assert "trimtab keys sign" in caught.value.fix


def test_a_signature_without_end_is_not_read_to_its_end(server: FakeServer, tmp_path: Path) -> None:
    server.signature = b" " * (5 << 20)
    with pytest.raises(RegistryError, match="has more than"):
        fetch(server, tmp_path / "into")


def test_a_file_beside_those_that_are_signed_is_never_asked_for(server: FakeServer, tmp_path: Path) -> None:
    server.files["evil.so"] = b"\x7fELF"
    fetch(server, tmp_path / "into")
    assert not (tmp_path / "into" / "evil.so").exists()


def test_for_a_server_that_runs_the_loader_the_loader_is_verified_too(server: FakeServer, tmp_path: Path) -> None:
    follow.download_model("http://mlflow", "m", 1, tmp_path / "model", server.keys)
    assert (tmp_path / "model" / "loader.py").read_bytes() == b"loader"
    assert (tmp_path / "model" / "artifacts" / "release" / "release.json").exists()
    server.outside["loader.py"] = b"import os"
    with pytest.raises(RegistryError, match=r"loader\.py was changed after it was signed"):
        follow.download_model("http://mlflow", "m", 1, tmp_path / "model", server.keys)
    assert (tmp_path / "model" / "loader.py").read_bytes() == b"loader"


def test_artifacts_that_the_server_does_not_hand_out_are_refused_by_their_address(
    server: FakeServer, tmp_path: Path
) -> None:
    server.uri = "file:///etc"
    with pytest.raises(RegistryError, match="file:///etc"):
        fetch(server, tmp_path / "into")


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
