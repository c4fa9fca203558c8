"""What the Prefect UI shows of a flow before it runs: the form."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from flows.alert import alert
from flows.monitor import monitor
from flows.react import react
from flows.release import release
from flows.retention import retention
from flows.score import score
from flows.serve import serve


@pytest.mark.parametrize("flow", [alert, monitor, react, release, retention, score, serve], ids=lambda flow: flow.name)
def test_every_field_of_the_form_says_what_it_is_for(flow: Flow[..., Any]) -> None:
    fields = parameter_schema(flow).model_dump()["properties"]

    assert fields
    assert [name for name, field in fields.items() if len(field.get("description", "")) < 5] == []


def test_a_field_with_a_default_stays_optional() -> None:
    form = parameter_schema(release).model_dump()

    assert set(form["required"]) == {"recipe", "home"}
    assert form["properties"]["reason"]["default"] == "manual"
