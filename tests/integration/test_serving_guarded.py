"""The service as a process behind its door: tokens changed while it runs, TLS, and clients that are not nice to it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from certificates import make
from test_serving_process import ROWS, write_release

from trimtab.asking import scoring_client, token_file
from trimtab.serving.tokens import TokenFile
from trimtab.settings import Settings

pytestmark = pytest.mark.integration


@contextmanager
def started(home: Path, release: Path, *more: str) -> Iterator[str]:
    """The address of a service of one release folder; it is killed at the end."""
    command = [sys.executable, "-m", "trimtab.serving", "--name", "tiny", "--port", "0", "--home", str(home)]
    command += ["--release-folder", str(release), *more]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as it:
        try:
            assert it.stderr is not None
            line = next(line for line in it.stderr if " on http" in line)
            threading.Thread(target=it.stderr.read, daemon=True).start()
            yield line.split(" on ")[1].split('"')[0].split()[0]
        finally:
            it.kill()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("guarded") / "one", 1)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, release: Path) -> Iterator[str]:
    """The address of a service that knows no token, so that whoever gets past its door got round it."""
    with started(tmp_path_factory.mktemp("closed"), release, "--auth") as address:
        yield address


def until(seen, what: str) -> None:
    deadline = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_tokens_are_taken_and_refused_without_a_restart_and_our_own_client_finds_its_own(tmp_path: Path, release: Path):
    settings = Settings(home=tmp_path)
    file = TokenFile.of(settings)
    with started(tmp_path, release, "--auth") as address, httpx.Client(base_url=address) as client:
        assert client.get("/ping").status_code == 200
        assert client.post("/invocations", json=ROWS).status_code == 401
        secret, token = file.add("shop", ["score"])
        bearer = {"Authorization": f"Bearer {secret}"}
        until(lambda: client.post("/invocations", json=ROWS, headers=bearer).status_code == 200, "taken")
        file.revoke(token.id)
        until(lambda: client.post("/invocations", json=ROWS, headers=bearer).status_code == 401, "refused")
        kept, _ = file.add("us", ["read"])
        token_file(settings).write_text(kept)
        token_file(settings).chmod(0o600)
        known = settings.model_copy(update={"scoring": {"tiny": address}})
        with scoring_client(known, "tiny") as ours:
            until(lambda: ours.get("/version").status_code == 200, "ours")


@pytest.mark.parametrize(
    "target", ["/version/../ping", "/ping/../version", "//ping", "/./ping", "/ping;x", "/%2e/ping", "http://x/version",
               "/ping%2f..%2fversion", "*", "/version%00/ping"],
)  # fmt: skip
def test_no_way_of_writing_a_target_goes_round_the_door(closed: str, target: str) -> None:
    status, body = raw(closed, f"GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
    assert status in (400, 401), (target, body)


def test_tls_is_spoken_and_our_own_client_knows_the_certificate(tmp_path: Path, release: Path) -> None:
    certificate, key = make(tmp_path / "tls")
    arguments = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with started(tmp_path, release, *arguments) as address:
        assert address.startswith("https://")
        settings = Settings(home=tmp_path, scoring={"tiny": address}, scoring_certificates={"tiny": str(certificate)})
        with scoring_client(settings, "tiny") as ours:
            assert ours.post("/invocations", json=ROWS).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/ping")  # not signed by anybody whom the world trusts
        with pytest.raises(httpx.HTTPError):
            httpx.get(address.replace("https", "http") + "/ping")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/ping", verify=old)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--host", "0.0.0.0"), "would answer everybody"),
        (("--tls-certificate", "none.pem", "--tls-key", "none.pem"), "no such file"),
        (("--journal", '{"redact": ["usr"]}'), "no input 'usr'"),
    ],
)
def test_what_must_not_be_served_so_is_told_with_an_exit_code(tmp_path: Path, release: Path, arguments, told) -> None:
    command = [sys.executable, "-m", "trimtab.serving", "--name", "tiny", "--port", "0", "--home", str(tmp_path)]
    done = subprocess.run(
        [*command, "--release-folder", str(release), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 7
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def raw(address: str, sent: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to bytes as they are."""
    host, port = address.split("//")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_clients_that_are_not_nice_are_answered_in_json_and_hurt_nobody(tmp_path: Path, release: Path) -> None:
    with started(tmp_path, release) as address:
        many = b"".join(b"X-%d: y\r\n" % index for index in range(200))
        for status, sent in {
            400: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            431: b"GET /ping HTTP/1.1\r\nHost: t\r\n" + many + b"\r\n",
        }.items():
            found, body = raw(address, sent)
            assert found == status
            assert set(json.loads(body)) == {"error_code", "message"}
        upgrade = b"GET /ping HTTP/1.1\r\nHost: t\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"
        assert raw(address, upgrade)[0] == 200  # nothing here speaks it, so it is not taken up
        held = [socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) for _ in range(100)]
        for connection in held:
            connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: t\r\nX-Slow: ")
        with httpx.Client(base_url=address) as client:
            assert [client.post("/invocations", json=ROWS).status_code for _ in range(20)] == [200] * 20
        for connection in held:
            connection.close()
