"""The application: answers, limits, journal, labels, metrics and errors over HTTP, with a model made in the test."""

from __future__ import annotations

import asyncio
import errno
import gzip
import html
import json
import os
import re
import shutil
import threading
import time
from dataclasses import replace
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from trimtab.journal.reader import end, window
from trimtab.journal.wal import Journal
from trimtab.serving import recording, workers
from trimtab.serving.app import build
from trimtab.serving.keeping import Keeping
from trimtab.serving.limits import Limits
from trimtab.serving.release import Loaded
from trimtab.serving.service import Service

ONE = {"instances": [[0.0, 1.0, 2.0]]}
SPEC = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3]}],
    "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}],
}


class Softmax:
    """Answers softmax of its input; `before` is called first and may block or raise."""

    spec, reentrant = SPEC, True

    def __init__(self, before=lambda inputs: None):
        self.before = before

    def predict(self, inputs):
        self.before(inputs)
        exponent = np.exp(inputs["input"] - inputs["input"].max(axis=1, keepdims=True))
        return {"probabilities": (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)}


SYNCED = {"keeping": Keeping(acknowledge="synced")}  # what was answered is there to be read at once


def loaded(version="1", predictor=None, **limits) -> Loaded:
    facts = {"candidate": "abc", "target": "onnxruntime-cpu", "precision": "fp32", "classes": 3}
    return Loaded("tiny", version, predictor or Softmax(), Limits(**{**SYNCED, **limits}), facts, time.time_ns())


@pytest.fixture
def service(tmp_path):
    (tmp_path / "reports").mkdir()
    return Service("tiny", tmp_path / "reports", Journal(tmp_path / "journal"))


@pytest.fixture
def client(service):
    with TestClient(build(service), raise_server_exceptions=False) as client:
        yield client


def test_an_answer_is_what_the_model_says_and_names_version_and_request(service, client):
    service.swap(loaded("7"))
    answer = client.post("/invocations", json=ONE, headers={"X-Request-Id": "order-66.a_b:c"})
    assert answer.status_code == 200
    np.testing.assert_allclose(answer.json()["predictions"]["probabilities"], [[0.0900306, 0.2447285, 0.6652409]], 1e-5)
    assert answer.headers["x-request-id"] == "order-66.a_b:c"
    assert answer.headers["x-trimtab-version"] == "7"
    assert answer.headers["x-trimtab-journal"] == "durable"


def test_an_answered_request_is_in_the_journal(service, client, tmp_path):
    service.swap(loaded("7"))
    first = client.post("/invocations", json={"instances": [[0, 1, 2], [5, 1, 2]]}).headers["x-request-id"]
    found = window(tmp_path / "journal", 0, 2)
    assert found.request_id.tolist() == [first, first]
    assert found.row.tolist() == [0, 1]
    assert found.version.tolist() == ["7", "7"]
    assert found.predicted.tolist() == [2, 0]
    assert found.inputs["input"].tolist() == [[0, 1, 2], [5, 1, 2]]
    np.testing.assert_allclose(found.confidence, found.output.max(axis=1))
    assert (found.latency_ms > 0).all()


def test_the_answer_waits_until_its_rows_are_synced_where_the_release_says_so(service, client, monkeypatch):
    service.swap(loaded())
    real, synced = os.fdatasync, []
    monkeypatch.setattr(os, "fdatasync", lambda handle: (real(handle), synced.append(1)))
    client.post("/invocations", json=ONE)
    assert synced == [1]


def test_the_answer_waits_for_the_write_of_its_rows_and_not_for_a_sync(service, client, monkeypatch, tmp_path):
    service.swap(loaded(keeping=Keeping()))
    real, go_on = os.fdatasync, threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda handle: (go_on.wait(20), real(handle)))
    answer = client.post("/invocations", json=ONE, headers={"X-Request-Id": "r1"})
    assert answer.headers["x-trimtab-journal"] == "durable"
    assert end(tmp_path / "journal") == 0
    shutil.copytree(tmp_path / "journal", tmp_path / "killed")
    go_on.set()
    assert client.post("/labels", json=[{"request_id": "r1", "label": 1}]).json()["known"] == 1
    assert window(tmp_path / "journal", 0, 1).label.tolist() == [1]
    with Journal(tmp_path / "killed") as journal:
        assert journal.rows == 1


def test_a_disk_that_takes_nothing_sheds_what_would_not_have_waited_for_a_sync(service, client, monkeypatch):
    service.swap(loaded(keeping=Keeping()))

    def full(handle, parts, at):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    answer = client.post("/invocations", json=ONE)
    assert (answer.status_code, answer.headers["x-trimtab-journal"]) == (200, "shed")
    monkeypatch.undo()
    assert client.post("/invocations", json=ONE).headers["x-trimtab-journal"] == "durable"


def test_inputs_are_left_out_of_the_journal_where_the_release_says_so(service, client, tmp_path):
    service.swap(loaded(keeping=Keeping("none", acknowledge="synced")))
    client.post("/invocations", json=ONE)
    assert window(tmp_path / "journal", 0, 1).inputs is None


def test_before_a_release_is_loaded_the_service_is_alive_but_not_ready(client):
    assert client.get("/ping").status_code == client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 503
    answer = client.post("/invocations", json=ONE)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert client.get("/version").json()["version"] is None


def test_a_swap_changes_the_next_answer(service, client):
    service.swap(loaded("1"))
    assert client.post("/invocations", json=ONE).headers["x-trimtab-version"] == "1"
    service.swap(loaded("2"))
    assert client.post("/invocations", json=ONE).headers["x-trimtab-version"] == "2"
    assert client.get("/ready").json() == {"ready": True, "version": "2"}
    assert 'version="2"' in client.get("/metrics").text
    assert 'version="1"' not in client.get("/metrics").text


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "a\u00e9", "a;b", "<script>"])
def test_a_bad_request_id_is_refused_and_not_echoed(service, client, bad):
    service.swap(loaded())
    answer = client.post("/invocations", json=ONE, headers={"X-Request-Id": bad.encode()})
    assert answer.status_code == 400
    assert "x-request-id" not in answer.headers
    assert not bad or bad not in answer.text


def test_errors_have_the_form_of_mlflow_and_hold_neither_payload_nor_trace(service, client):
    service.swap(loaded())
    answer = client.post("/invocations", content=b'{"secretpayload": 1}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json().keys() == {"error_code", "message"}
    assert "secretpayload" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413_with_and_without_a_length(service, client, chunked):
    service.swap(loaded(max_body=1000))
    body = b'{"instances": [[' + b"1," * 5000 + b"1]]}"
    content = iter([body[:600], body[600:1200], body[1200:]]) if chunked else body
    assert client.post("/invocations", content=content).status_code == 413
    assert client.post("/invocations", json=ONE).status_code == 200


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "identity, gzip", "x-gzip"])
def test_a_body_compressed_in_another_way_than_gzip_is_415(service, client, coding):
    service.swap(loaded())
    assert client.post("/invocations", content=b"x", headers={"Content-Encoding": coding}).status_code == 415


def test_a_gzip_body_is_answered_as_the_plain_one_is(service, client):
    service.swap(loaded())
    body = gzip.compress(json.dumps(ONE).encode())
    answer = client.post("/invocations", content=body, headers={"Content-Encoding": "GZIP"})
    assert answer.content == client.post("/invocations", json=ONE).content


def test_a_small_body_that_becomes_a_large_one_is_413(service, client):
    service.swap(loaded(max_body=100_000))
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 20_000
    assert client.post("/invocations", content=bomb, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert client.post("/labels", content=bomb, headers={"Content-Encoding": "gzip"}).status_code == 413


def test_a_body_of_more_values_than_the_release_allows_is_413(service, client):
    service.swap(loaded(max_elements=30))
    assert client.post("/invocations", json={"instances": [[1, 2, 3]] * 10}).status_code == 200
    refused = client.post("/invocations", json={"instances": [[1, 2, 3]] * 11})
    assert refused.status_code == 413
    assert "about 33 values, more than 30" in refused.json()["message"]


def failing(kind):
    def before(inputs):
        raise kind("secret detail of the model")

    return before


def test_a_model_that_raises_is_a_500_without_detail_counted_and_journalled(service, client, tmp_path):
    service.swap(loaded(predictor=Softmax(failing(RuntimeError))))
    answer = client.post("/invocations", json=ONE)
    assert answer.status_code == 500
    assert answer.json()["error_code"] == "INTERNAL_ERROR"
    assert "secret" not in answer.text
    found = window(tmp_path / "journal", 0, 1)
    assert found.errors == {"RuntimeError": 1}
    assert found.status.tolist() == [500]
    assert found.inputs["input"].tolist() == [[0, 1, 2]]
    assert 'trimtab_model_errors_total{kind="RuntimeError"} 1.0' in client.get("/metrics").text
    service.swap(loaded())
    assert client.post("/invocations", json=ONE).status_code == 200


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_a_500_in_json(service, client, value):
    predictor = Softmax()
    predictor.predict = lambda inputs: {"probabilities": np.array([[0.5, value, 0.5]], np.float32)}
    service.swap(loaded(predictor=predictor))
    answer = client.post("/invocations", json=ONE)
    assert answer.status_code == 500
    assert answer.json()["error_code"] == "INTERNAL_ERROR"
    assert 'kind="NotFinite"' in client.get("/metrics").text


def test_beyond_the_queue_a_request_is_refused_at_once_and_the_others_are_answered(service):
    started, go_on = threading.Event(), threading.Event()

    def before(inputs):
        started.set()
        assert go_on.wait(20)

    service.swap(loaded(predictor=Softmax(before), max_queue=2))

    async def play():
        transport = httpx.ASGITransport(build(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            first = [asyncio.create_task(client.post("/invocations", json=ONE)) for _ in range(3)]
            while service.engine.unfinished < 3:
                await asyncio.sleep(0.005)
            refused = [await client.post("/invocations", json=ONE) for _ in range(3)]
            assert (await client.get("/ping")).status_code == 200
            go_on.set()
            answered = await asyncio.gather(*first)
            return refused, answered, await client.post("/invocations", json=ONE)

    refused, answered, after = asyncio.run(play())
    service.close()
    assert [answer.status_code for answer in refused] == [503] * 3
    assert all(answer.headers["retry-after"] for answer in refused)
    assert [answer.status_code for answer in [*answered, after]] == [200] * 4


def test_each_caller_gets_its_own_answer(service):
    service.swap(loaded(max_queue=100))

    async def play():
        transport = httpx.ASGITransport(build(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            bodies = [{"instances": [[index, 0, 0]] * (1 + index % 3)} for index in range(60)]
            return await asyncio.gather(*(client.post("/invocations", json=body) for body in bodies))

    answers = asyncio.run(play())
    service.close()
    for index, answer in enumerate(answers):
        rows = answer.json()["predictions"]["probabilities"]
        assert len(rows) == 1 + index % 3
        expected = np.exp(-index) / (1 + 2 * np.exp(-index))
        np.testing.assert_allclose([row[1] for row in rows], expected, rtol=1e-4, atol=1e-12)


def test_requests_under_way_finish_on_the_release_they_began_with(service):
    started, go_on = threading.Event(), threading.Event()

    def before(inputs):
        started.set()
        assert go_on.wait(20)

    service.swap(loaded("old", Softmax(before)))

    async def play():
        transport = httpx.ASGITransport(build(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            under_way = asyncio.create_task(client.post("/invocations", json=ONE))
            while not started.is_set():
                await asyncio.sleep(0.005)
            service.swap(loaded("new"))
            late = asyncio.create_task(client.post("/invocations", json=ONE))
            go_on.set()
            return await under_way, await late

    old, new = asyncio.run(play())
    service.close()
    assert (old.headers["x-trimtab-version"], new.headers["x-trimtab-version"]) == ("old", "new")


def test_a_model_that_hangs_makes_the_service_unready(service, client, monkeypatch):
    service.swap(loaded())
    service.engine._began[0] = time.monotonic() - 100
    assert client.get("/ready").status_code == 503
    service.engine._began.clear()
    assert client.get("/ready").status_code == 200


def test_a_full_disk_sheds_the_journal_and_serving_goes_on(service, client, monkeypatch, tmp_path):
    service.swap(loaded())
    real = os.fdatasync

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    answer = client.post("/invocations", json={"instances": [[0, 1, 2], [0, 1, 2]]})
    assert answer.status_code == 200
    assert answer.headers["x-trimtab-journal"] == "shed"
    assert "trimtab_journal_shed_rows_total 2.0" in client.get("/metrics").text
    refused = client.post("/labels", json=[{"request_id": "a", "label": 1}])
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    monkeypatch.setattr(os, "fdatasync", real)
    assert client.post("/invocations", json=ONE).headers["x-trimtab-journal"] == "durable"
    assert len(window(tmp_path / "journal", 0, 1)) == 1


def test_a_disk_that_hangs_does_not_hold_up_answers_for_ever(service, client, monkeypatch):
    service.swap(loaded())
    service.recorder.wait_s = 0.05
    real, go_on = os.fdatasync, threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda handle: (go_on.wait(20), real(handle)))
    answer = client.post("/invocations", json=ONE)
    go_on.set()
    assert (answer.status_code, answer.headers["x-trimtab-journal"]) == (200, "shed")


def test_a_write_that_hangs_holds_up_no_answer_for_ever_and_no_later_request(service, client, monkeypatch):
    monkeypatch.setattr(workers, "RELIEF_S", 0.01)
    service.swap(loaded())
    service.recorder.wait_s = 0.1
    real, go_on, hanging = os.pwritev, threading.Event(), []

    def hang(*arguments):
        hanging.append(threading.current_thread().name)
        go_on.wait(20)
        return real(*arguments)

    monkeypatch.setattr(os, "pwritev", hang)
    try:
        answers = [client.post("/invocations", json=ONE)]
        assert len(model_threads()) == 2  # replaced by then: no later request has to wait for that
        answers += [client.post("/invocations", json=ONE) for _ in range(2)]
        assert [(one.status_code, one.headers["x-trimtab-journal"]) for one in answers] == [(200, "shed")] * 3
        assert hanging == ["model-1"]  # an idle model's thread writes itself
        assert "trimtab_journal_shed_rows_total 3.0" in client.get("/metrics").text
    finally:
        go_on.set()
    assert client.post("/invocations", json=ONE).headers["x-trimtab-journal"] == "durable"
    assert not service.engine.dead
    assert len(model_threads()) == 1  # the one that hung has ended


def model_threads():
    return [thread for thread in threading.enumerate() if thread.name == "model-1"]


def test_an_answer_is_told_once_whoever_is_first(service, monkeypatch):
    told = []
    once = recording._Once(service.recorder, 2, told.append)
    once.settle(7)
    once.settle(TimeoutError("late"))
    assert told == ["durable"]


def test_what_cannot_be_put_into_rows_is_shed_and_the_model_goes_on(service, client, monkeypatch, caplog):
    service.swap(loaded())
    monkeypatch.setattr(service.recorder._keeper, "kept", lambda keeping, inputs: 1 / 0)
    answers = [client.post("/invocations", json=ONE) for _ in range(2)]
    assert [one.headers["x-trimtab-journal"] for one in answers] == ["shed"] * 2
    assert not service.engine.dead
    assert caplog.text.count("ZeroDivisionError") == 1


def test_labels_are_recorded_under_their_request_and_unknown_ones_counted(service, client, tmp_path):
    service.swap(loaded())
    client.post("/invocations", json={"instances": [[0, 1, 2], [5, 1, 2]]}, headers={"X-Request-Id": "r1"})
    labels = [("r1", 1, 2), ("r1", 0, 0), ("no", 0, 1)]
    entries = [dict(zip(("request_id", "row", "label"), label, strict=True)) for label in labels]
    del entries[1]["row"]
    for _ in range(2):  # a client that repeats itself changes nothing
        answer = client.post("/labels", json=entries)
        assert answer.status_code == 202
        assert answer.json() == {"accepted": 3, "known": 2, "unknown": 1}
        assert window(tmp_path / "journal", 0, 2).label.tolist() == [0, 2]
    assert client.post("/labels", json=[]).json() == {"accepted": 0, "known": 0, "unknown": 0}


@pytest.mark.parametrize(
    "entries",
    [{"request_id": "a"}, [1], [{"label": 1}], [{"request_id": "a"}], [{"request_id": "a", "label": "1"}],
     [{"request_id": "a", "label": True}], [{"request_id": "a", "label": 1.0}], [{"request_id": "a", "label": -1}],
     [{"request_id": "a", "label": 3}], [{"request_id": "a", "label": 1, "row": -1}],
     [{"request_id": "a b", "label": 1}], [{"request_id": "a", "label": 1, "other": 1}],
     [{"request_id": 5, "label": 1}]],
)  # fmt: skip
def test_bad_labels_are_refused_as_a_whole(service, client, tmp_path, entries):
    service.swap(loaded())
    client.post("/invocations", json=ONE, headers={"X-Request-Id": "good"})
    if isinstance(entries, list):
        entries = [{"request_id": "good", "label": 0}, *entries]
    assert client.post("/labels", json=entries).status_code == 400
    assert window(tmp_path / "journal", 0, 1).labelled == 0


def test_requests_of_other_web_pages_are_refused(service, client):
    service.swap(loaded())
    assert client.post("/invocations", json=ONE, headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post("/labels", json=[], headers={"Origin": "null"}).status_code == 403
    assert client.post("/invocations", json=ONE, headers={"Origin": "http://testserver"}).status_code == 200
    answer = client.options("/invocations", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_unknown_paths_and_methods_are_json_errors(client):
    for method, path, status in (("GET", "/nope", 404), ("GET", "/invocations", 405), ("DELETE", "/ping", 405)):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert answer.json().keys() == {"error_code", "message"}


def test_reports_are_served_and_nothing_beside_them(service, client, tmp_path):
    (tmp_path / "reports" / "windows").mkdir()
    (tmp_path / "reports" / "windows" / "one.html").write_text("<p>report</p>")
    (tmp_path / "secret.html").write_text("secret")
    (tmp_path / "reports" / "link.html").symlink_to(tmp_path / "secret.html")
    found = client.get("/reports/windows/one.html")
    assert found.text == "<p>report</p>"
    assert found.headers["content-type"].startswith("text/html")
    for path in (
        "windows", "windows/", "../secret.html", "..%2fsecret.html", "%2e%2e/secret.html", "%252e%252e%252fsecret.html",
        "windows/%25252e%25252e/%25252e%25252e/secret.html", "link.html", "..%5csecret.html", "%00", "//etc/passwd",
        "%2fetc%2fpasswd", "file:///etc/passwd",
    ):  # fmt: skip
        answer = client.get(f"/reports/{path}")
        assert answer.status_code == 404, path
        assert "secret" not in answer.text


def test_the_list_of_reports_is_newest_first_and_its_links_lead_to_them(service, client, tmp_path):
    reports = tmp_path / "reports"
    (reports / "windows").mkdir()
    hostile = "a <b>\"&'#?.html"
    for age, name in enumerate(["windows/new.html", hostile, "old.html"]):
        (reports / name).write_text(name)
        os.utime(reports / name, (10_000 - age, 10_000 - age))
    for address in ("/reports/", "/reports"):
        answer = client.get(address)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        links = [html.unescape(link) for link in re.findall(r'href="([^"]*)"', answer.text)]
        pages = [client.get(urljoin(f"http://testserver{address}", link)).text for link in links]
        assert pages == ["windows/new.html", hostile, "old.html"]
        assert "<b>" not in answer.text


def test_the_list_of_reports_names_nothing_but_reports_below_their_folder(service, client, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.html").write_text("secret")
    reports = tmp_path / "reports"
    (reports / "link.html").symlink_to(tmp_path / "outside" / "secret.html")
    (reports / "folder").symlink_to(tmp_path / "outside")
    for name in ("notes.txt", ".draft.html", "%2e%2e%2foutside%2fsecret.html"):
        (reports / name).write_text("x")
    (reports / "folder.html").mkdir()
    for _ in range(2):
        answer = client.get("/reports/")
        assert answer.status_code == 200
        assert "No report yet." in answer.text
        assert "href" not in answer.text
        shutil.rmtree(reports, ignore_errors=True)  # and a folder that is not there yet


def test_a_browser_gets_a_page_of_links_and_a_program_gets_json(service, client):
    service.swap(loaded("7"))
    shown = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert shown.headers["content-type"].startswith("text/html")
    assert "Version 7 is served." in shown.text
    links = re.findall(r'href="([^"]*)"', shown.text)
    assert "reports/" in links
    assert all(client.get(f"/{link}").status_code == 200 for link in links)
    for accept in ("application/json", "*/*"):
        answer = client.get("/", headers={"Accept": accept})
        assert answer.headers["vary"] == shown.headers["vary"] == "Accept"
        assert (answer.json()["name"], answer.json()["version"]) == ("tiny", "7")
        assert {"/invocations", "/reports/"} <= set(answer.json()["links"])


def test_limits_come_from_the_release_and_nonsense_is_refused():
    assert Limits.from_json({}) == Limits()
    section = {"backend": "trimtab", "threads": 2, "max_queue": 5, "max_body_mb": 0.5, "journal_inputs": False}
    assert Limits.from_json(section) == Limits(2, 5, 2**19, Keeping("none"))
    for bad in ({"threads": 0}, {"max_queue": "many"}, {"max_body_mb": -1}, {"max_elements": 0}, {"journal": "none"}):
        with pytest.raises(Exception, match=r"release\.json"):
            Limits.from_json(bad)


def test_a_release_is_replaced_as_a_whole(service):
    release = loaded("1")
    with pytest.raises(AttributeError):
        release.version = "2"
    assert replace(release, version="2").version == "2"
    service.close()
