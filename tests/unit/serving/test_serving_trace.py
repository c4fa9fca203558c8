"""Trace context: what is passed on, what is ignored, and the line a sampled request leaves beside the journal."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from serving_world import asked, loaded

from trimtab.serving.trace import traced

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
ONE = {"instances": [[0.0, 1.0, 2.0]]}


def test_a_request_is_a_new_span_of_its_callers_trace():
    first, second = traced(SAMPLED), traced(SAMPLED)
    assert first is not None
    assert second is not None
    assert (first.trace, first.parent, first.sampled) == (TRACE, PARENT, True)
    assert len({first.span, second.span, PARENT}) == 3
    assert first.header == f"00-{TRACE}-{first.span}-01"
    assert traced(first.header).parent == first.span


def test_unknown_flags_are_not_passed_on_and_a_later_version_is_read_as_far_as_it_is_known():
    assert traced(f"00-{TRACE}-{PARENT}-ff").header.endswith("-03")
    assert traced(f"cc-{TRACE}-{PARENT}-01-what-comes-later").header.startswith(f"00-{TRACE}-")
    assert traced(f" {UNSAMPLED} ").sampled is False


@pytest.mark.parametrize(
    "header",
    [None, "", "x", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
     SAMPLED.upper(), f"{SAMPLED}-more", f"00-{TRACE[:-1]}-{PARENT}-01", f"00-{TRACE}-{PARENT}-1",
     f"{SAMPLED},{SAMPLED}", f"cc-{TRACE}-{PARENT}-01.x"],
)  # fmt: skip
def test_what_is_no_traceparent_is_as_none(header):
    assert traced(header) is None


@pytest.mark.parametrize("path", ["/invocations", "/v2/models/tiny/infer"])
@pytest.mark.parametrize("body", [ONE, {"nonsense": 1}])
def test_every_scoring_answer_names_its_span_and_a_sampled_one_is_a_line_of_the_log(tmp_path: Path, caplog, path, body):
    caplog.set_level(logging.INFO, "trimtab.serving.scoring")
    with asked(tmp_path, loaded()) as (client, _):
        answer = client.post(path, json=body, headers={"traceparent": SAMPLED})
        quiet = client.post(path, json=body, headers={"traceparent": UNSAMPLED})
        without = client.post(path, json=body)
    assert answer.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert quiet.headers["traceparent"].endswith("-00")
    assert "traceparent" not in without.headers
    (line,) = [record for record in caplog.records if record.message == "scored"]
    span = answer.headers["traceparent"].split("-")[2]
    assert (line.trace_id, line.span_id, line.parent_id) == (TRACE, span, PARENT)
    assert (line.request_id, line.status) == (answer.headers["x-request-id"], answer.status_code)
