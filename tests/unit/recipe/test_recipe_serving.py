"""The recipe's serving section."""

from __future__ import annotations

import pytest

from trimtab.errors import RecipeError
from trimtab.recipe.load import parse_recipe
from trimtab.serving.limits import Limits

HEAD = "name: mine\nmodel: model:build\ndata: data:split\n"


def serving(text: str):
    return parse_recipe(f"{HEAD}serving: {text}").serving


@pytest.mark.parametrize(
    ("written", "mode"),
    [("off", "off"), ("on", "on"), ("'off'", "off"), ("false", "off"), ("yes", "on"), ("auto", "auto")],
)
def test_a_mode_is_read_as_it_is_meant_although_yaml_takes_on_and_off_for_booleans(written, mode):
    assert serving(f"{{batching: {{mode: {written}}}}}").batching.mode == mode


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{workers: 0}", "workers"), ("{workers: some}", "workers"), ("{batching: {mode: sometimes}}", "batching.mode"),
        ("{batching: {max_rows: 0}}", "batching.max_rows"), ("{batching: {max_wait_ms: -1}}", "batching.max_wait_ms"),
        ("{max_queue_per_client: 0}", "max_queue_per_client"), ("{batching: {size: 3}}", "batching.size"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused_by_its_key(text, key):
    with pytest.raises(RecipeError, match=f"serving.{key}"):
        serving(text)


def test_the_service_reads_what_the_recipe_writes():
    assert Limits.from_json(serving("{}").model_dump(mode="json")) == Limits()
    text = "{workers: 2, max_queue_per_client: 9, batching: {mode: off, max_rows: 4, max_wait_ms: 1.5}}"
    wanted = Limits(workers=2, max_per_client=9, batching="off", max_rows=4, max_wait_s=0.0015)
    assert Limits.from_json(serving(text).model_dump(mode="json")) == wanted
