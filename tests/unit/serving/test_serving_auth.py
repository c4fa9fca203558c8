"""The door: what is open, what a token opens, and that no other way of writing a path goes round it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from test_serving_app import ONE, loaded

from trimtab.journal.reader import end
from trimtab.journal.wal import Journal
from trimtab.serving.app import build
from trimtab.serving.auth import OPEN, needed
from trimtab.serving.service import Service
from trimtab.serving.tokens import SCOPES, TokenFile, Tokens
from trimtab.settings import Settings

PATHS = ["/invocations", "/labels", "/version", "/metrics", "/", "/reports/", "/reports/x.html", "/nope", "/pingx"]


@pytest.fixture
def world(tmp_path: Path):
    file = TokenFile.of(Settings(home=tmp_path))
    (tmp_path / "reports").mkdir()
    service = Service("tiny", tmp_path / "reports", Journal(tmp_path / "journal"), tokens=Tokens(file, look_s=0))
    service.swap(loaded())
    with TestClient(build(service), raise_server_exceptions=False) as client:
        yield file, client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_only_the_probes_are_open(world) -> None:
    _, client = world
    for path in ("/ping", "/health", "/ready"):
        assert client.get(path).status_code == 200
    for path in PATHS:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"):
            answer = client.request(method, path)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path", ["/ping/", "//ping", "/%70ing", "/version;/ping", "/PING", "/ping%00", "/version%2fping",
             "/version?x=/ping", "/version#/ping", "/health%20", "/v2/health/live/"],
)  # fmt: skip
def test_a_path_that_only_resembles_an_open_one_is_closed(world, path: str) -> None:
    assert world[1].get(path).status_code == 401


@pytest.mark.parametrize("path", ["/%69nvocations", "/invocation%73", "/labels", "/%6cabels"])
def test_an_encoded_path_needs_the_scope_of_the_route_it_leads_to(world, path: str, tmp_path: Path) -> None:
    file, client = world
    reader, _ = file.add("reader", ["read"])
    assert client.post(path, json=ONE, headers=bearer(reader)).status_code == 403
    assert end(tmp_path / "journal") == 0


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_opens_its_scope_and_no_other(world, scope: str) -> None:
    file, client = world
    secret, _ = file.add("one", [scope])
    asked = {
        "score": client.post("/invocations", json=ONE, headers=bearer(secret)),
        "labels": client.post("/labels", json=[], headers=bearer(secret)),
        "read": client.get("/version", headers=bearer(secret)),
    }
    good = {"score": 200, "labels": 202, "read": 200}
    for wanted, answer in asked.items():
        if wanted == scope:
            assert answer.status_code == good[wanted]
        else:
            assert answer.status_code == 403
            assert answer.json()["error_code"] == "PERMISSION_DENIED"
            assert f'error="insufficient_scope", scope="{wanted}"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {} x", "Bearer  x{}", "Bearer {}x", "Bearer\t{}", "Token {}",
     "Bearer {},Bearer {}"],
)  # fmt: skip
def test_what_is_not_this_token_behind_bearer_is_401(world, header: str) -> None:
    file, client = world
    secret, _ = file.add("one", ["score"])
    answer = client.post("/invocations", json=ONE, headers={"Authorization": header.format(secret, secret)})
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert secret not in answer.text


def test_two_authorization_headers_are_refused_also_when_both_are_good(world) -> None:
    file, client = world
    secret, _ = file.add("one", ["score"])
    twice = [("Authorization", f"Bearer {secret}"), ("Authorization", f"Bearer {secret}")]
    assert client.post("/invocations", json=ONE, headers=twice).status_code == 401
    assert client.post("/invocations", json=ONE, headers=twice[:1]).status_code == 200


def test_the_scheme_is_taken_in_any_case_as_http_has_it(world) -> None:
    file, client = world
    secret, _ = file.add("one", ["read"])
    for scheme in ("bearer", "BEARER"):
        assert client.get("/version", headers={"Authorization": f"{scheme} {secret}"}).status_code == 200


def test_a_revoked_token_is_refused_by_the_next_request(world) -> None:
    file, client = world
    secret, token = file.add("one", ["read"])
    assert client.get("/version", headers=bearer(secret)).status_code == 200
    file.revoke(token.id)
    assert client.get("/version", headers=bearer(secret)).status_code == 401


def test_refusals_are_counted_by_reason(world) -> None:
    file, client = world
    secret, _ = file.add("one", ["read"])
    client.get("/version")
    client.get("/version", headers=bearer("wrong"))
    client.post("/invocations", json=ONE, headers=bearer(secret))
    text = client.get("/metrics", headers=bearer(secret)).text
    for reason in ("no_token", "bad_token", "scope"):
        assert f'trimtab_refused_requests_total{{reason="{reason}"}} 1.0' in text


def test_a_websocket_is_closed_at_the_door(world) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect) as caught, world[1].websocket_connect("/ping"):
        pass
    assert caught.value.code == 1008


def test_without_tokens_in_the_service_nothing_is_asked_for(tmp_path: Path) -> None:
    with TestClient(build(Service("tiny", tmp_path, None))) as client:
        assert client.get("/version").status_code == 200


def test_whatever_writes_needs_a_scope_that_writes_also_on_paths_that_come_later() -> None:
    assert needed("POST", "/labels") == "labels"
    for path in ("/invocations", "/v2/models/tiny/infer", "/labels/", "/anything"):
        assert {needed(method, path) for method in ("POST", "PUT", "PATCH", "DELETE", "BREW")} == {"score"}
        assert {needed(method, path) for method in ("GET", "HEAD", "OPTIONS")} == {"read"}
    assert all(path.startswith(b"/") and not path.endswith(b"/") for path in OPEN)
