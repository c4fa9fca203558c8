"""The OpenAPI document and its page: true to the routes and the release, self-contained, its example works."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from serving_world import IMAGES, PICTURE, TWO, VECTOR, asked, loaded, spec
from starlette.routing import Route

from trimtab.serving import media
from trimtab.serving.app import build
from trimtab.serving.openapi import LARGEST_INLINE

LARGE = spec(input=("float32", [3, 40, 40]))


def fits(document: dict[str, Any], schema: str, value: Any) -> None:
    root = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    jsonschema.validate(value, root, jsonschema.Draft202012Validator)


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for inner in value.values() for found in references(inner)]
    return [found for inner in value for found in references(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    "release", [None, VECTOR, TWO, PICTURE, LARGE], ids=["none", "vector", "two", "picture", "large"]
)
def test_the_document_is_whole_and_names_every_route_and_no_other(tmp_path: Path, release):
    with asked(tmp_path, loaded(release) if release else None) as (client, service):
        document = client.get("/openapi.json").json()
        routes = {
            (route.path, method.lower())
            for route in build(service).routes
            if isinstance(route, Route)
            for method in route.methods or ()
            if method != "HEAD"
        }
    missing = {("/", "get"), ("/reports", "get"), ("/reports/{path:path}", "get")}
    named = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert named == routes - missing
    assert document["openapi"] == "3.1.0"
    for reference in references(document):
        where: Any = document
        for key in reference.removeprefix("#/").split("/"):
            where = where[key]
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["responses"]
            given = {entry["name"] for entry in operation.get("parameters", ()) if entry["in"] == "path"}
            assert given == set(re.findall(r"{(\w+)}", path))


@pytest.mark.parametrize("release", [VECTOR, TWO, PICTURE])
def test_its_example_fits_its_schema_and_is_answered(tmp_path: Path, release):
    with asked(tmp_path, loaded(release)) as (client, _):
        document = client.get("/openapi.json").json()
        body = document["paths"]["/invocations"]["post"]["requestBody"]["content"][media.JSON]["examples"]["golden"][
            "value"
        ]
        fits(document, "Invocation", body)
        answer = client.post("/invocations", json=body)
        assert answer.status_code == 200, answer.text
        fits(document, "Predictions", answer.json())
        assert client.get("/example").json() == body
        fits(document, "Error", client.post("/invocations", json={}).json())
        refused = client.post("/v2/models/tiny/infer", json={})
        fits(document, "V2Error", refused.json())
    with pytest.raises(jsonschema.ValidationError):
        fits(document, "Invocation", {**body, "instances": [[1]]})
    with pytest.raises(jsonschema.ValidationError):
        fits(document, "Invocation", {"inputs": {}})


def test_a_large_example_is_fetched_instead_of_shown(tmp_path: Path):
    with asked(tmp_path, loaded(LARGE)) as (client, _):
        content = client.get("/openapi.json").json()["paths"]["/invocations"]["post"]["requestBody"]["content"]
        assert content[media.JSON]["examples"]["golden"]["externalValue"] == "/example"
        body = client.get("/example").json()
        assert np.array(body["inputs"]["input"]).shape == (1, 3, 40, 40)
        assert np.array(body["inputs"]["input"]).size > LARGEST_INLINE
        assert client.post("/invocations", json=body).status_code == 200


def test_v2_requests_and_answers_fit_their_schemas(tmp_path: Path):
    with asked(tmp_path, loaded()) as (client, _):
        document = client.get("/openapi.json").json()
        body = {"id": "a", "inputs": [{"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
        fits(document, "V2Request", body)
        fits(document, "V2Response", client.post("/v2/models/tiny/infer", json=body).json())
        labels = [{"request_id": "a", "row": 0, "label": 2}]
        fits(document, "Labels", labels)
        assert client.post("/labels", json=labels).status_code == 202


def test_images_are_named_only_where_the_release_takes_them(tmp_path: Path):
    for images, expected in ((IMAGES, True), (None, False), ({**IMAGES, "mode": "L"}, False)):
        with asked(tmp_path, loaded(PICTURE, images=images)) as (client, _):
            content = client.get("/openapi.json").json()["paths"]["/invocations"]["post"]["requestBody"]["content"]
        assert (media.PNG in content) == expected


@pytest.mark.parametrize("release", [None, VECTOR, LARGE])
def test_the_page_needs_no_network_and_shows_a_command_that_works(tmp_path: Path, release):
    with asked(tmp_path, loaded(release) if release else None) as (client, _):
        shown = client.get("/docs", headers={"Host": "here:1'<script>"})
        assert shown.status_code == 200
        page = client.get("/docs")
        body = client.get("/example")
    assert "<script" not in shown.text
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//", page.text)
    assert "POST /invocations" in page.text
    assert "GET /v2/models/{name}" in page.text
    if release is None:
        assert body.status_code == 503
        return
    (command,) = re.findall(r"<pre>(.*?)</pre>", page.text, re.S)
    command = html.unescape(command)
    assert "http://testserver/invocations" in command
    sent = re.findall(r"-d '(.*)'$", command)
    assert sent == [json.dumps(body.json())] if release is VECTOR else "http://testserver/example |" in command


def test_where_inputs_are_private_the_example_is_not_a_row_of_the_data(tmp_path: Path):
    from trimtab.serving.release import _zeros

    row = {"input": np.array([[1.5, 2, 3]], np.float32)}
    assert _zeros(row)["input"].tolist() == [[0, 0, 0]]
