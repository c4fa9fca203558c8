"""Stock `mlflow models serve` and our service on the same release: every form, compared; differences as listed only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from parity_forms import DIFFERENCES, ELSEWHERE, FORMS, Form
from parity_world import MODELS, Servers, side_by_side

pytestmark = pytest.mark.integration
DOCS = Path(__file__).parents[2] / "docs" / "serving.md"
HEADING = "## Differences from stock MLflow, on purpose"


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with side_by_side(tmp_path_factory.mktemp(f"parity-{request.param}"), request.param) as both:
        yield both


def ask(client: httpx.Client, form: Form) -> httpx.Response:
    headers = {"Content-Type": form.content_type} if form.content_type is not None else {}
    return client.post("/invocations", content=form.body, headers=headers)


def code_of(answer: httpx.Response) -> str | None:
    """The error code, where the answer has one."""
    try:
        value: Any = json.loads(answer.text)
    except ValueError:
        return None
    return value.get("error_code") if isinstance(value, dict) else None


def numbers_of(answer: httpx.Response) -> np.ndarray:
    return np.array(json.loads(answer.text)["predictions"]["probabilities"], np.float64)


@pytest.mark.parametrize(
    ("servers", "form"), [(form.model, form) for form in FORMS], ids=map(str, FORMS), indirect=["servers"]
)
def test_both_servers_answer_alike_or_as_the_list_of_differences_says(servers: Servers, form: Form) -> None:
    theirs, ours = ask(servers.stock, form), ask(servers.ours, form)
    known = DIFFERENCES.get(str(form))
    if known is not None:
        assert (theirs.status_code, code_of(theirs)) == known.stock
        assert (ours.status_code, code_of(ours)) == known.ours
        return
    told = f"stock {theirs.status_code} {theirs.text[:300]}\nours {ours.status_code} {ours.text[:300]}"
    assert theirs.status_code // 100 == ours.status_code // 100, told
    if theirs.status_code != 200:
        assert code_of(theirs) in (None, code_of(ours)), told
        assert form.body.decode("utf-8", "replace") not in ours.text or len(form.body) < 20
        return
    np.testing.assert_array_equal(numbers_of(ours), numbers_of(theirs))


@pytest.mark.parametrize("servers", ["vector"], indirect=True)
def test_pages_are_where_they_are_on_the_stock_server(servers: Servers) -> None:
    for path in ("/ping", "/health"):
        theirs, ours = servers.stock.get(path), servers.ours.get(path)
        assert (ours.status_code, ours.text, ours.headers["content-type"]) == (
            theirs.status_code, theirs.text, theirs.headers["content-type"]
        )  # fmt: skip
    assert servers.stock.get("/version").text.startswith("3.")
    assert servers.ours.get("/version").json()["version"] == "1"
    for method, path in (("GET", "/invocations"), ("POST", "/ping"), ("GET", "/nothing")):
        assert servers.ours.request(method, path).status_code == servers.stock.request(method, path).status_code


def test_the_forms_are_many_and_every_difference_is_of_one() -> None:
    names = [str(form) for form in FORMS]
    assert len(names) == len(set(names)) >= 100
    assert set(DIFFERENCES) <= set(names)
    assert {form.model for form in FORMS} == set(MODELS)


def test_the_docs_list_every_difference_and_no_other() -> None:
    section = DOCS.read_text().partition(HEADING)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| .+? \| .+? \|$", section, re.M)
    listed = {row for row in rows if not row.startswith(("---", " "))} - {""}
    assert listed == {difference.row for difference in DIFFERENCES.values()} | ELSEWHERE
