"""Ports: the remembered one, else the usual one, else a free one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from deployments.stack.claims import Claims
from deployments.stack.ports import (
    HOST,
    USUAL,
    Ports,
    choose,
    is_free,
    with_backend,
    with_pin,
    with_scoring,
    without_scoring,
)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_moves_to_another_one(taken: int) -> None:
    chosen = choose(replace(USUAL, prefect=taken, scoring={"digits": taken}), ["digits"])

    assert taken not in chosen.all()
    assert all(is_free(port) for port in chosen.all())


def test_the_remembered_ports_are_kept_while_they_are_free() -> None:
    first = choose(USUAL, ["digits", "tabular"])

    assert choose(first, ["digits", "tabular"]) == first


def test_no_two_services_get_the_same_port() -> None:
    same = choose(USUAL, []).prefect
    chosen = choose(Ports(same, same, same, same, {"a": same, "b": same}), ["a", "b"])

    assert len(set(chosen.all())) == 6


def test_one_more_release_leaves_the_other_ports_alone() -> None:
    before = choose(USUAL, ["digits"])
    after = with_scoring(before, "tabular")

    assert after.scoring["digits"] == before.scoring["digits"]
    assert replace(after, scoring=before.scoring) == before
    assert after.scoring["tabular"] not in before.all()
    assert with_scoring(after, "tabular") == after


def test_what_a_service_is_pinned_to_is_remembered_with_the_ports() -> None:
    pinned = with_pin(Ports(scoring={"trial": 8081}), "trial", "digits/3")

    assert choose(pinned, ["trial"]).pinned == {"trial": "digits/3"}
    assert with_pin(pinned, "trial", "digits@challenger").pinned == {"trial": "digits@challenger"}
    assert with_pin(pinned, "trial", None).pinned == {}


def test_a_service_that_is_taken_out_leaves_nothing_and_the_others_alone() -> None:
    before = Ports(scoring={"digits": 8080, "tabular": 8081})
    more = with_pin(
        with_backend(replace(before, scoring={**before.scoring, "x": 8082}), "x", "mlflow"), "x", "digits/3"
    )

    assert without_scoring(more, "x") == before
    assert without_scoring(before, "absent") == before


def test_two_that_choose_at_once_choose_different_ports_and_a_claim_ends_with_its_holder() -> None:
    with Claims() as mine, Claims() as yours:
        first = choose(USUAL, ["digits"], mine.take)
        second = choose(first, ["digits"], yours.take)
        assert not {*first.all()} & {*second.all()}
        assert all(is_free(port) for port in first.all())  # a server can listen on what is claimed for it
    with Claims() as later:
        assert choose(first, ["digits"], later.take) == first


def test_a_port_that_is_listened_on_cannot_be_claimed() -> None:
    with socket.create_server((HOST, 0)) as listener, Claims() as claims:
        assert not claims.take(listener.getsockname()[1])
