"""Both clients against the service's own application, and what they are made with."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from trimtab.client import AsyncScoringClient, Label, Refused, ScoringClient, Unavailable
from trimtab.journal.reader import window
from trimtab.journal.wal import Journal
from trimtab.serving.app import build
from trimtab.serving.limits import Limits
from trimtab.serving.release import Loaded
from trimtab.serving.service import Service

SPEC = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3]}],
    "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}],
}
ROWS = np.array([[0, 1, 2], [5, 1, 2]], np.float32)


class Shares:
    """Answers each row's share of its sum."""

    spec, reentrant = SPEC, True

    def predict(self, inputs: Any) -> dict[str, np.ndarray]:
        return {"probabilities": inputs["input"] / inputs["input"].sum(axis=1, keepdims=True)}


@pytest.fixture
def service(tmp_path: Any) -> Iterator[Service]:
    service = Service("tiny", tmp_path / "reports", Journal(tmp_path / "journal"))
    facts = {"candidate": "abc", "target": "onnxruntime-cpu", "precision": "fp32", "classes": 3}
    service.swap(Loaded("tiny", "7", Shares(), Limits(), facts, time.time_ns()))
    yield service
    service.close()


def blocking(service: Service) -> ScoringClient:
    """A client whose requests go into the application without a socket."""
    inside = TestClient(build(service), raise_server_exceptions=False)

    def answer(request: httpx.Request) -> httpx.Response:
        headers = {key: value for key, value in request.headers.items() if key != "host"}
        got = inside.request(request.method, request.url.path, content=request.content, headers=headers)
        return httpx.Response(got.status_code, content=got.content, headers=got.headers)

    return ScoringClient("http://service", retries=0, transport=httpx.MockTransport(answer))


def test_a_blocking_client_scores_labels_and_asks(service: Service, tmp_path: Any) -> None:
    with blocking(service) as client:
        answer = client.predict(ROWS, request_id="mine")
        counts = client.labels([Label("mine", 2), Label("other", 1)])

        np.testing.assert_array_equal(answer.outputs["probabilities"], ROWS / ROWS.sum(axis=1, keepdims=True))
        assert (answer.version, answer.request_id, answer.journal) == ("7", "mine", "durable")
        assert (counts.accepted, counts.known, counts.unknown) == (2, 1, 1)
        assert client.version().version == "7"
        assert client.ready()
        with pytest.raises(Refused, match="input") as caught:
            client.predict({"wrong": ROWS})
        assert caught.value.code == "INVALID_PARAMETER_VALUE"
    assert window(tmp_path / "journal", 0, 2).label.tolist() == [2, -1]


def test_an_asynchronous_client_does_the_same(service: Service) -> None:
    async def play() -> None:
        transport = httpx.ASGITransport(build(service))
        async with AsyncScoringClient("http://service", retries=0, transport=transport) as client:
            answers = await asyncio.gather(*(client.predict({"input": ROWS}) for _ in range(5)))
            for answer in answers:
                np.testing.assert_array_equal(answer.outputs["probabilities"], ROWS / ROWS.sum(axis=1, keepdims=True))
            assert len({answer.request_id for answer in answers}) == 5
            split = {"dataframe_split": {"columns": ["a", "b", "c"], "data": ROWS.tolist()}}
            assert (await client.invoke(split)).version == "7"
            assert (await client.labels([Label(answers[0].request_id, 1)])).known == 1
            assert (await client.version()).name == "tiny"
            assert await client.ready()

    asyncio.run(play())


def test_nobody_there_is_unavailable_and_not_ready() -> None:
    with ScoringClient("http://127.0.0.1:9", timeout=5, retries=1) as client:
        assert client.ready() is False
        with pytest.raises(Unavailable, match="2 attempts"):
            client.predict(ROWS)


def test_the_token_is_sent_with_every_request_and_not_shown() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200, json={"name": "tiny", "version": None})

    client = ScoringClient("http://service", "secret-word", transport=httpx.MockTransport(answer))
    client.version()

    assert seen == ["Bearer secret-word"]
    assert "secret-word" not in repr(client) + str(vars(client))


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "127.0.0.1:8080"}, {"url": "ftp://host"}, {"url": "http://"}, {"token": "a b"}, {"token": ""},
        {"token": "ü"}, {"timeout": 0}, {"timeout": float("nan")}, {"timeout": float("inf")}, {"retries": -1},
        {"encoding": "xml"},
    ],
)  # fmt: skip
def test_a_client_that_cannot_work_is_not_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ScoringClient(**{"url": "http://service", **wrong})


def test_loopback_is_reached_without_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    assert not ScoringClient("http://localhost:8080")._http.trust_env
    assert not ScoringClient("http://[::1]:8080")._http.trust_env
    assert ScoringClient("http://scoring.example")._http.trust_env


def test_the_client_brings_nothing_of_the_rest() -> None:
    code = (
        "import sys, trimtab.client;"
        "heavy = {'torch', 'mlflow', 'prefect', 'pandas', 'pyarrow', 'starlette', 'pydantic'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.strip() == "[]", done.stderr
