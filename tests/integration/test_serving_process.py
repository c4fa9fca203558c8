"""The scoring service as a process: start, answer, follow a registry, be killed, drain; nothing heavy imported."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trimtab.journal.reader import end, window
from trimtab.registry.keys import Keyring
from trimtab.registry.package import Facts, Golden, pack, release_key
from trimtab.registry.signing import sign_folder
from trimtab.settings import Settings

pytestmark = pytest.mark.integration
ROWS = {"instances": np.full((2, 1, 4, 4), 0.5).tolist()}


def write_release(folder: Path, seed: int, *, spoil: bool = False) -> Path:
    """A linear classifier of 1x4x4 images as an ONNX release; `spoil` records golden answers it does not give."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(16, 3)).astype(np.float32)
    images = generator.normal(size=(4, 1, 4, 4)).astype(np.float32)
    exponent = np.exp(images.reshape(4, 16) @ weights)
    answers = (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)
    converted = folder.with_name(f"{folder.name}-converted")
    converted.mkdir(parents=True)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 4, 4])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, converted / "model.onnx")
    spec = {
        "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 1, 4, 4]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}],
    }
    (converted / "spec.json").write_text(json.dumps(spec))
    facts = Facts(
        "tiny", f"candidate-{seed}", "original", "onnxruntime-cpu", "fp32", 1, 3, None, {}, {},
        {"serving": {"max_queue": 64, "max_body_mb": 0.1}},
    )  # fmt: skip
    golden = Golden({"input": images}, {"probabilities": answers[::-1].copy() if spoil else answers})
    pack(converted, folder, facts, golden)
    return folder


@contextlib.contextmanager
def process(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen, httpx.Client]]:
    """The service on a free port, told by its log; killed at the end if it still runs."""
    command = [sys.executable, "-m", module, "--name", "tiny", "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as child:
        try:
            address = next(line for line in child.stderr if " on http://" in line).split(" on ")[1].split('"')[0]
            drained = threading.Thread(target=child.stderr.read, daemon=True)
            drained.start()
            with httpx.Client(base_url=address, timeout=20) as client:
                yield child, client
        finally:
            child.kill()


def wait_for_version(client: httpx.Client, version: str | None) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if client.get("/version").json()["version"] == version and client.get("/ready").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"version {version} does not serve: {client.get('/version').text}")


class FakeMlflow(ThreadingHTTPServer):
    """The part of MLflow's REST interface that a scoring service uses, on folders made in the test."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MlflowHandler)
        self.champion: int | None = None
        self.challenger: int | None = None
        self.folders: dict[int, Path] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _MlflowHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        folders, version = self.server.folders, int(query.get("version", 0))
        if parts.path.endswith("/registered-models/alias"):
            version = self.server.challenger if query["alias"] == "challenger" else self.server.champion
            if version is None:
                return self._send(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such model"})
            return self._send(200, {"model_version": {"version": str(version)}})
        if parts.path.endswith("/model-versions/get"):
            tag = {"key": "trimtab.release_key", "value": release_key(folders[version])}
            return self._send(200, {"model_version": {"version": str(version), "tags": [tag]}})
        if parts.path.endswith("/model-versions/get-download-uri"):
            return self._send(200, {"artifact_uri": f"mlflow-artifacts:/7/models/m-{version}"})
        _, found, rest = unquote(parts.path).partition("/mlflow-artifacts/artifacts/7/models/m-")
        number, _, file = rest.partition("/artifacts/release/")
        content = folders[int(number)] / file if found else None
        if content is None or not content.is_file():
            return self._send(404, {})
        return self._send(200, content.read_bytes())

    def _send(self, status: int, value: dict | bytes) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the test's console."""


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("releases") / "one", 1)


def test_a_release_folder_is_served_and_sigterm_drains_and_exits_with_0(tmp_path, release):
    arguments = ("--home", str(tmp_path), "--release-folder", str(release), "--version", "3")
    with process("trimtab.serving", *arguments) as (child, client):
        wait_for_version(client, "3")
        answer = client.post("/invocations", json=ROWS, headers={"X-Request-Id": "first"})
        assert answer.status_code == 200
        assert answer.headers["x-trimtab-journal"] == "durable"
        assert len(answer.json()["predictions"]["probabilities"]) == 2
        assert client.post("/labels", json=[{"request_id": "first", "row": 1, "label": 2}]).json()["known"] == 1
        assert client.post("/invocations", content=iter([b"[" * 60_000] * 3)).status_code == 413
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    found = window(tmp_path / "journal" / "tiny", 0, 2)
    assert found.request_id.tolist() == ["first", "first"]
    assert found.label.tolist() == [-1, 2]


def test_kill_9_loses_no_answered_request_and_the_next_start_goes_on(tmp_path, release):
    arguments = ("--home", str(tmp_path), "--release-folder", str(release))
    answered: list[str] = []
    with process("trimtab.serving", *arguments) as (child, client):
        wait_for_version(client, "0")

        def ask(worker: int) -> None:
            with contextlib.suppress(httpx.TransportError), httpx.Client(base_url=client.base_url) as own:
                for index in range(100_000):
                    name = f"w{worker}-{index}"
                    if own.post("/invocations", json=ROWS, headers={"X-Request-Id": name}).status_code == 200:
                        answered.append(name)

        askers = [threading.Thread(target=ask, args=(worker,)) for worker in range(4)]
        for asker in askers:
            asker.start()
        while len(answered) < 100:
            time.sleep(0.01)
        child.kill()
        for asker in askers:
            asker.join(30)
    with process("trimtab.serving", *arguments) as (_, client):
        wait_for_version(client, "0")
        rows = end(tmp_path / "journal" / "tiny")
        assert set(answered) <= set(window(tmp_path / "journal" / "tiny", 0, rows).request_id)
        client.post("/invocations", json=ROWS)
        deadline = time.monotonic() + 30
        while end(tmp_path / "journal" / "tiny") != rows + 2:  # once synced
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_promotion_is_followed_without_a_failed_request_and_a_bad_one_is_refused(tmp_path, release):
    mlflow = FakeMlflow()
    mlflow.folders = {
        1: Path(shutil.copytree(release, tmp_path / "one")),
        2: write_release(tmp_path / "two", 2),
        3: write_release(tmp_path / "three", 3, spoil=True),
    }
    for folder in mlflow.folders.values():
        sign_folder(folder, "tiny", Keyring(Settings.load(tmp_path / "home").signing_keys))
    arguments = ("--home", str(tmp_path / "home"), "--mlflow", mlflow.address)
    statuses, versions, stop = [], [], threading.Event()
    with process("deployments.scoring", *arguments) as (child, client):
        assert client.get("/ping").status_code == 200
        assert client.get("/ready").status_code == client.post("/invocations", json=ROWS).status_code == 503
        mlflow.champion = 1
        wait_for_version(client, "1")

        def ask() -> None:
            with httpx.Client(base_url=client.base_url) as own:
                while not stop.is_set():
                    answer = own.post("/invocations", json=ROWS)
                    statuses.append(answer.status_code)
                    versions.append(answer.headers["x-trimtab-version"])

        asker = threading.Thread(target=ask)
        asker.start()
        mlflow.champion = 2
        wait_for_version(client, "2")
        mlflow.champion = 3
        while (refused := client.get("/version").json()["refused"]) is None:
            time.sleep(0.05)
        mlflow.shutdown()
        mlflow.server_close()
        while client.get("/version").json()["registry_error"] is None:
            time.sleep(0.05)
        time.sleep(0.1)
        stop.set()
        asker.join(30)
        assert refused["version"] == 3
        assert "differ from the recorded" in refused["reason"]
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
    assert set(statuses) == {200}
    assert versions == sorted(versions)
    assert set(versions) == {"1", "2"}


def test_a_port_in_use_and_a_second_service_are_told_with_their_exit_codes(tmp_path, release):
    arguments = ("--home", str(tmp_path), "--release-folder", str(release))
    with process("trimtab.serving", *arguments) as (_, client):
        wait_for_version(client, "0")
        port = str(client.base_url.port)
        for extra, code, told in ((port, 7, "cannot be listened on"), ("0", 8, "another process")):
            command = [sys.executable, "-m", "trimtab.serving", "--name", "tiny", "--port", extra, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == code
            assert told in done.stderr
            assert "Traceback" not in done.stderr


def test_a_changed_release_folder_is_not_served(tmp_path, release):
    folder = tmp_path / "changed"
    write_release(folder, 9)
    (folder / "model.onnx").write_bytes((release / "model.onnx").read_bytes())
    command = [sys.executable, "-m", "trimtab.serving", "--name", "tiny", "--port", "0", "--home", str(tmp_path)]
    done = subprocess.run(
        [*command, "--release-folder", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 7
    assert "model.onnx" in done.stderr


def test_an_onnx_release_is_served_without_torch_mlflow_pandas_or_prefect(tmp_path, release):
    code = f"""
import sys
from pathlib import Path
import deployments.scoring
from trimtab.serving.service import fixed
from trimtab.settings import Settings
service = fixed("tiny", Settings.load(Path({str(tmp_path)!r})), Path({str(release)!r}), "1")
service.close()
print(sorted({{"torch", "mlflow", "pandas", "prefect", "pyarrow", "sklearn", "onnx"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[]", done.stderr
