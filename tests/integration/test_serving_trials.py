"""A challenger and the end of a service, on the real process: followed, tried, compared, refused; drained in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from test_serving_process import ROWS, FakeMlflow, process, wait_for_version, write_release

from trimtab.journal.comparisons import read_tallies
from trimtab.journal.reader import end, window
from trimtab.registry.keys import Keyring
from trimtab.registry.package import Facts, Golden, pack, read_json
from trimtab.registry.signing import sign_folder
from trimtab.settings import Settings

pytestmark = pytest.mark.integration
TRIED: dict[str, Any] = {
    "canary": {"percent": 30, "header": True},
    "shadow": {"percent": 100},
    "promotion": {"min_requests": 5, "min_agreement": 0.0001},
}


def wait_for(found: Callable[[], Any]) -> Any:
    """What `found` gives once it is true."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if value := found():
                return value
        time.sleep(0.05)
    raise AssertionError("it never was")


def tried_release(folder: Path, seed: int, serving: dict[str, Any], *, spoil: bool = False) -> Path:
    """`write_release` with a `serving` section in its release.json."""
    plain = write_release(folder.with_name(f"{folder.name}-plain"), seed, spoil=spoil)
    facts = read_json(plain, "release.json")
    with np.load(plain / "golden.npz") as archive:
        golden = Golden({"input": archive["inputs/input"]}, {"probabilities": archive["outputs/probabilities"]})
    known = {key: facts.pop(key) for key in Facts.__dataclass_fields__ if key in facts}
    pack(plain.with_name(f"{plain.name}-converted"), folder, Facts(**known, extra={"serving": serving}), golden)
    return folder


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[FakeMlflow]:
    """Version 1 is the champion; 2 and 3 can be tried, 3 does not answer as it was recorded; 4 is as 2."""
    server = FakeMlflow()
    server.folders = {
        1: tried_release(tmp_path / "one", 1, {}),
        2: tried_release(tmp_path / "two", 2, TRIED),
        3: tried_release(tmp_path / "three", 3, TRIED, spoil=True),
        4: tried_release(tmp_path / "four", 4, TRIED),
    }
    for folder in server.folders.values():
        sign_folder(folder, "tiny", Keyring(Settings.load(tmp_path / "home").signing_keys))
    server.champion = 1
    yield server
    server.shutdown()
    server.server_close()


def tried_version(client: httpx.Client) -> str | None:
    said = client.get("/version").json()["challenger"]
    return None if said is None else said["version"]


def ask(client: httpx.Client, name: str, **headers: str) -> httpx.Response:
    return client.post("/invocations", json=ROWS, headers={"X-Request-Id": name, **headers})


def test_a_challenger_is_followed_tried_compared_promoted_and_taken_away(tmp_path: Path, mlflow: FakeMlflow) -> None:
    home = tmp_path / "home"
    with process("deployments.scoring", "--home", str(home), "--mlflow", mlflow.address) as (child, client):
        wait_for_version(client, "1")
        assert {ask(client, f"a{index}").headers["x-trimtab-alias"] for index in range(10)} == {"champion"}
        mlflow.challenger = 2
        wait_for(lambda: tried_version(client) == "2")

        answers = [ask(client, f"b{index}") for index in range(60)]
        pairs = {(answer.headers["x-trimtab-version"], answer.headers["x-trimtab-alias"]) for answer in answers}
        assert pairs == {("1", "champion"), ("2", "challenger")}
        assert {answer.status_code for answer in answers} == {200}
        again = [ask(client, f"b{index}") for index in range(60)]
        assert [answer.content for answer in again] == [answer.content for answer in answers]
        asked = ask(client, "c", **{"X-Trimtab-Alias": "challenger"})
        assert asked.headers["x-trimtab-version"] == "2"

        def shown() -> Any:
            found = client.get("/comparison").json()
            return found if found["pairs"] and found["pairs"][0]["requests"] == 121 else None

        said = wait_for(shown)
        (pair,) = said["pairs"]
        champions = sum(answer.headers["x-trimtab-alias"] == "champion" for answer in answers)
        assert (pair["shadowed"], pair["canaried"], pair["failed"]) == (2 * champions, 121 - 2 * champions, 0)
        assert (pair["champion"], pair["challenger"], pair["rows"]) == ("1", "2", 4 * champions)
        assert "trimtab_shadow_total" in client.get("/metrics").text
        wait_for(lambda: end(home / "journal" / "tiny") == 2 * (10 + 2 * champions))  # once synced
        wait_for(lambda: end(home / "journal" / "tiny@challenger") == 2 * (121 - 2 * champions))

        mlflow.challenger = 3
        refused = wait_for(lambda: (client.get("/version").json()["challenger"] or {}).get("refused"))
        assert refused["version"] == 3
        assert "differ from the recorded" in refused["reason"]
        assert tried_version(client) is None
        assert {ask(client, f"b{index}").headers["x-trimtab-version"] for index in range(20)} == {"1"}
        assert ask(client, "d", **{"X-Trimtab-Alias": "challenger"}).status_code == 404
        assert client.get("/ready").status_code == 200

        mlflow.challenger = 4
        wait_for(lambda: tried_version(client) == "4")
        mlflow.champion, mlflow.challenger = 4, None
        wait_for_version(client, "4")
        wait_for(lambda: client.get("/version").json()["challenger"] is None)
        assert {ask(client, f"b{index}").headers["x-trimtab-version"] for index in range(20)} == {"4"}
        child.send_signal(signal.SIGKILL)
    assert read_tallies(home / "comparisons" / "tiny")["1", "2"].requests == 121


def test_a_challenger_is_gone_after_a_restart_without_a_registry_and_the_champion_is_not(
    tmp_path: Path, mlflow: FakeMlflow
) -> None:
    home = tmp_path / "home"
    mlflow.challenger = 2
    arguments = ("--home", str(home), "--mlflow", mlflow.address)
    with process("deployments.scoring", *arguments) as (_, client):
        wait_for_version(client, "1")
        wait_for(lambda: tried_version(client) == "2")
        wait_for((home / "serving" / "tiny" / "served.json").exists)
    with process("deployments.scoring", "--home", str(home), "--mlflow", "http://127.0.0.1:9") as (_, client):
        wait_for_version(client, "1")
        assert tried_version(client) is None
        assert ask(client, "a").status_code == 200


def half_a_request(client: httpx.Client, name: str) -> tuple[socket.socket, bytes]:
    """A connection on which a request was begun, and the rest of it."""
    body = json.dumps(ROWS).encode()
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: {client.base_url.host}\r\nX-Request-Id: {name}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection((client.base_url.host, client.base_url.port), 20)
    connection.sendall(head.encode() + body[:20])
    return connection, body[20:]


def answer_on(connection: socket.socket) -> bytes:
    received = b""
    with connection:
        while chunk := connection.recv(65536):
            received += chunk
    return received


def test_sigterm_answers_what_is_under_way_refuses_what_comes_and_ends(tmp_path: Path) -> None:
    release = tried_release(tmp_path / "release", 1, {"drain_s": 30})
    with process("trimtab.serving", "--home", str(tmp_path), "--release-folder", str(release)) as (child, client):
        wait_for_version(client, "0")
        connection, rest = half_a_request(client, "under-way")
        assert ask(client, "before").status_code == 200
        child.send_signal(signal.SIGTERM)
        wait_for(lambda: client.get("/ready").status_code == 503)
        assert client.get("/ping").status_code == 200
        refused = ask(client, "late")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert child.poll() is None
        connection.sendall(rest)
        assert answer_on(connection).startswith(b"HTTP/1.1 200")
        assert child.wait(20) == 0
    found = window(tmp_path / "journal" / "tiny", 0, end(tmp_path / "journal" / "tiny"))
    assert set(found.request_id) == {"before", "under-way"}


def test_a_client_that_never_finishes_does_not_keep_the_service_alive(tmp_path: Path) -> None:
    release = tried_release(tmp_path / "release", 1, {"drain_s": 4})
    with process("trimtab.serving", "--home", str(tmp_path), "--release-folder", str(release)) as (child, client):
        wait_for_version(client, "0")
        connection, _ = half_a_request(client, "slow")
        assert ask(client, "before").status_code == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
        connection.close()


HANGS = """
import sys, threading, time
from pathlib import Path
import numpy as np
from trimtab.journal.wal import Journal
from trimtab.serving import health
from trimtab.serving.limits import Limits
from trimtab.serving.release import Loaded
from trimtab.serving.run import bind, log_to_stderr, serve
from trimtab.serving.service import Service

health.HANGING_S, health.DEAD_S = 0.2, 0.6
home = Path(sys.argv[1])

class Model:
    spec = {"inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 1, 4, 4]}], "outputs": []}
    reentrant = True
    calls = 0

    def predict(self, inputs):
        self.calls += 1
        if self.calls > 1:
            threading.Event().wait()
        return {"probabilities": np.full((len(inputs["input"]), 3), 1 / 3, np.float32)}

log_to_stderr()
service = Service("tiny", home, Journal(home / "journal" / "tiny"))
service.swap(Loaded("tiny", "1", Model(), Limits(drain_s=4.0), {"classes": 3}, time.time_ns()))
serve(service, bind("127.0.0.1", 0))
"""


def test_a_model_that_hangs_is_not_ready_then_not_alive_and_the_process_still_ends(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", HANGS, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as child:
        try:
            assert child.stderr is not None
            address = next(line for line in child.stderr if " on http://" in line).split(" on ")[1].split('"')[0]
            log: list[str] = []
            reading = threading.Thread(target=lambda: log.append(child.stderr.read()), daemon=True)  # type: ignore[union-attr]
            reading.start()
            with httpx.Client(base_url=address, timeout=20) as client:
                assert ask(client, "first").status_code == 200
                with pytest.raises(httpx.TimeoutException):
                    client.post("/invocations", json=ROWS, timeout=0.1)
                wait_for(lambda: client.get("/ready").status_code == 503)
                wait_for(lambda: client.get("/ping").status_code == 503)
                child.send_signal(signal.SIGTERM)
                assert child.wait(20) == 1
            reading.join(20)
            assert "the process ends now" in log[0]
        finally:
            child.kill()
    assert window(tmp_path / "journal" / "tiny", 0, 2).request_id.tolist() == ["first", "first"]
