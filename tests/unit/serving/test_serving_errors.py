"""Every way to be refused has the one form; what is not a number has one policy; no error says what was sent."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from starlette.testclient import TestClient
from test_serving_app import ONE, Softmax, failing, loaded

from trimtab.journal.wal import Journal
from trimtab.serving import scoring
from trimtab.serving.answers import ERROR_SCHEMA
from trimtab.serving.app import build
from trimtab.serving.service import Service
from trimtab.serving.tokens import TokenFile, Tokens
from trimtab.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"
SECRET = "payload-that-nobody-should-see"
JSON = {"Content-Type": "application/json"}


def service(tmp_path: Path, **parts: Any) -> Service:
    (tmp_path / "reports").mkdir(exist_ok=True)
    return Service("tiny", tmp_path / "reports", Journal(tmp_path / "journal"), **parts)


def check(answer: httpx.Response, status: int, code: str | None = None) -> None:
    """The one form, and nothing of what was sent."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    jsonschema.validate(said, ERROR_SCHEMA)
    assert code in (None, said["error_code"])
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text


def instances(text: str) -> bytes:
    return ('{"instances": ' + text + "}").encode()


BODIES: dict[str, tuple[bytes, dict[str, str], int]] = {
    "no body": (b"", JSON, 400),
    "no JSON": (b'{"instances": [[0.01]]]', JSON, 400),
    "not UTF-8": (b'{"\xff": 1}', JSON, 400),
    "a list": (b"[1]", JSON, 400),
    "no form": (b'{"%s": 1}' % SECRET.encode(), JSON, 400),
    "two forms": (b'{"instances": [], "inputs": []}', JSON, 400),
    "no rows": (instances("[]"), JSON, 400),
    "another shape": (instances("[[1, 2]]"), JSON, 400),
    "ragged": (instances("[[1, 2, 3], [1]]"), JSON, 400),
    "text": (instances(f'[["{SECRET}", 1, 2]]'), JSON, 400),
    "null": (instances("[[null, 1, 2]]"), JSON, 400),
    "NaN": (instances("[[NaN, 1, 2]]"), JSON, 400),
    "Infinity": (instances("[[-Infinity, 1, 2]]"), JSON, 400),
    "beyond float32": (instances("[[1e39, 1, 2]]"), JSON, 400),
    "beyond any float": (instances("[[1e999, 1, 2]]"), JSON, 400),
    "unknown input": (b'{"inputs": {"input": [[1, 2, 3]], "%s": 1}}' % SECRET.encode(), JSON, 400),
    "nested too deeply for the model": (instances("[" * 30 + "1" + "]" * 30), JSON, 400),
    "nested too deeply for numpy": (instances("[" * 200 + "1" + "]" * 200), JSON, 400),
    "nested too deeply for the parser": (instances("[" * 5000 + "1" + "]" * 5000), JSON, 400),
    "objects nested too deeply": (b'{"a":' * 5000 + b"1" + b"}" * 5000, JSON, 400),
    "brackets without end": (b"[" * 100_000, JSON, 400),
    "CSV of words": (f"a,b,c\n1,2,{SECRET}\n".encode(), {"Content-Type": "text/csv"}, 400),
    "CSV with NaN": (b"a,b,c\n1,2,nan\n", {"Content-Type": "text/csv"}, 400),
    "another type": (b"x", {"Content-Type": f"text/{SECRET}"}, 415),
    "another charset": (b"x", {"Content-Type": "application/json; charset=latin-1"}, 415),
    "another coding": (b"x", {**JSON, "Content-Encoding": SECRET}, 415),
    "no gzip": (b"{}", {**JSON, "Content-Encoding": "gzip"}, 400),
    "too large": (b" " * 3000, JSON, 413),
    "a bad request id": (b"{}", {**JSON, "X-Request-Id": f"{SECRET} "}, 400),
    "another origin": (b"{}", {**JSON, "Origin": f"http://{SECRET}"}, 403),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_request_that_cannot_be_scored(tmp_path: Path, case: str) -> None:
    content, headers, status = BODIES[case]
    serving = service(tmp_path)
    serving.swap(loaded(max_body=200_000 if "brackets" in case or "nested" in case else 2000))
    with TestClient(build(serving), raise_server_exceptions=False) as client:
        check(client.post("/invocations", content=content, headers=headers), status)
        assert client.post("/invocations", json=ONE).status_code == 200


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [(b"{}", JSON, 400), (b"x", {"Content-Type": "text/csv"}, 415), (b"[NaN]", JSON, 400), (b" " * 3000, JSON, 413),
     (b'[{"request_id": "a", "label": NaN}]', JSON, 400), (b"[" * 2000, JSON, 400)],
)  # fmt: skip
def test_labels_that_cannot_be_recorded(tmp_path: Path, content: bytes, headers: dict, status: int) -> None:
    serving = service(tmp_path)
    serving.swap(loaded(max_body=2500))
    with TestClient(build(serving), raise_server_exceptions=False) as client:
        check(client.post("/labels", content=content, headers=headers), status)


def test_paths_and_methods_that_are_not_there(tmp_path: Path) -> None:
    with TestClient(build(service(tmp_path)), raise_server_exceptions=False) as client:
        check(client.get(f"/{SECRET}"), 404, "ENDPOINT_NOT_FOUND")
        check(client.get(f"/reports/{SECRET}"), 404, "ENDPOINT_NOT_FOUND")
        check(client.get("/invocations"), 405, "BAD_REQUEST")
        check(client.options("/invocations"), 405, "BAD_REQUEST")


def test_a_service_that_cannot_answer_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = service(tmp_path)
    with TestClient(build(serving), raise_server_exceptions=False) as client:
        for path in ("/ready", "/invocations"):
            answer = client.get(path) if path == "/ready" else client.post(path, json=ONE)
            check(answer, 503, "TEMPORARILY_UNAVAILABLE")
            assert answer.headers["retry-after"]
        serving.swap(loaded())
        serving.journal.close()
        answer = client.post("/labels", json=[{"request_id": "a", "label": 1}])
        check(answer, 503, "TEMPORARILY_UNAVAILABLE")
        serving.recorder = None
        check(client.post("/labels", json=[]), 503, "TEMPORARILY_UNAVAILABLE")


def test_a_model_and_a_service_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = service(tmp_path)
    serving.swap(loaded(predictor=Softmax(failing(RuntimeError))))
    with TestClient(build(serving), raise_server_exceptions=False) as client:
        check(client.post("/invocations", json=ONE), 500, "INTERNAL_ERROR")
        for value in (np.nan, np.inf):
            predictor = Softmax()
            predictor.predict = lambda inputs, value=value: {"probabilities": np.full((1, 3), value, np.float32)}
            serving.swap(loaded(predictor=predictor))
            check(client.post("/invocations", json=ONE), 500, "INTERNAL_ERROR")
        monkeypatch.setattr("trimtab.serving.app.generate_latest", failing(ZeroDivisionError))
        check(client.get("/metrics"), 500, "INTERNAL_ERROR")


def test_a_body_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "READ_S", 0.01)
    serving = service(tmp_path)
    serving.swap(loaded())

    async def trickle():
        yield b"{"
        await asyncio.sleep(5)
        yield b"}"

    async def play() -> httpx.Response:
        transport = httpx.ASGITransport(build(serving))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            return await client.post("/invocations", content=trickle(), headers=JSON)

    check(asyncio.run(play()), 408, "DEADLINE_EXCEEDED")
    serving.close()


def test_who_may_not_ask(tmp_path: Path) -> None:
    file = TokenFile.of(Settings(home=tmp_path))
    secret, _ = file.add("reader", ["read"])
    with TestClient(build(service(tmp_path, tokens=Tokens(file))), raise_server_exceptions=False) as client:
        check(client.get("/version"), 401, "UNAUTHENTICATED")
        check(client.get("/version", headers={"Authorization": f"Bearer {SECRET}"}), 401, "UNAUTHENTICATED")
        wrong = {"Authorization": f"Bearer {secret}"}
        check(client.post("/invocations", json=ONE, headers=wrong), 403, "PERMISSION_DENIED")


def test_the_page_on_serving_has_every_code_and_every_status_that_there_is() -> None:
    text = PAGE.read_text()
    section = text[text.index("## Errors") : text.index("\n## ", text.index("## Errors") + 5)]
    codes = ERROR_SCHEMA["properties"]["error_code"]["enum"]
    assert [code for code in codes if f"`{code}`" not in section] == []
    told = set(re.findall(r"^\| (\d{3}) \|", section, re.M))
    assert told == {"400", "401", "403", "404", "405", "408", "413", "415", "429", "431", "500", "503"}
    shown = re.search(r"```json\n(.+?)```", section, re.S)
    assert shown is not None
    jsonschema.validate(json.loads(shown[1]), ERROR_SCHEMA)
