"""Which release answers: sticky by request id, in the asked share, and by header only where the challenger takes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import ProtocolError
from trimtab.serving.routing import CHALLENGER, CHAMPION, alias_for, is_shadowed, place
from trimtab.serving.trial import Trial

IDS = [f"request-{index}" for index in range(20_000)]


@given(st.text(max_size=200), st.sampled_from(["canary", "shadow"]))
def test_a_request_has_one_place_below_100(request_id: str, purpose: str) -> None:
    first = place(request_id, purpose)
    assert 0 <= first < 100
    assert place(request_id, purpose) == first


def test_known_ids_keep_their_places_for_ever() -> None:
    # Recorded once: a change of the hash would send repeated requests to the other release in the middle of a trial.
    assert [round(place(name, "canary"), 6) for name in ("a", "order-66", "")] == [91.385249, 72.153236, 70.675796]


@pytest.mark.parametrize("percent", [0.5, 10, 50])
def test_the_share_is_what_was_asked_for(percent: float) -> None:
    share = 100 * sum(alias_for(name, None, Trial(percent)) == CHALLENGER for name in IDS) / len(IDS)
    # Four standard deviations of a binomial share of 20,000; the ids are fixed, so this never flickers.
    assert abs(share - percent) < 4 * (percent * (100 - percent) / len(IDS)) ** 0.5


@given(st.text(max_size=50), st.floats(0, 100), st.floats(0, 100))
def test_a_larger_share_only_adds_requests(request_id: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if alias_for(request_id, None, Trial(small)) == CHALLENGER:
        assert alias_for(request_id, None, Trial(large)) == CHALLENGER


@given(st.text(max_size=50))
def test_all_and_nothing_are_exact(request_id: str) -> None:
    assert alias_for(request_id, None, Trial(100)) == CHALLENGER
    assert alias_for(request_id, None, Trial(0)) == CHAMPION
    assert alias_for(request_id, None, None) == CHAMPION
    assert is_shadowed(request_id, Trial(shadow_percent=100))
    assert not is_shadowed(request_id, Trial())


def test_what_is_copied_does_not_depend_on_what_is_a_canary() -> None:
    trial = Trial(canary_percent=50, shadow_percent=50)
    both = sum(alias_for(name, None, trial) == CHALLENGER and is_shadowed(name, trial) for name in IDS)
    assert abs(both / len(IDS) - 0.25) < 4 * (0.25 * 0.75 / len(IDS)) ** 0.5


@pytest.mark.parametrize("asked", ["challenger", " Challenger "])
def test_the_header_asks_for_the_challenger(asked: str) -> None:
    assert alias_for("x", asked, Trial(by_header=True)) == CHALLENGER


def test_the_header_asks_for_the_champion_whatever_the_share() -> None:
    assert alias_for("x", "champion", Trial(100, by_header=True)) == CHAMPION
    assert alias_for("x", "champion", None) == CHAMPION


@pytest.mark.parametrize(
    ("asked", "trial", "status", "told"),
    [
        ("challenger", None, 404, "no challenger is loaded"),
        ("challenger", Trial(50), 404, "not answer by header"),
        ("previous", Trial(by_header=True), 400, "champion or challenger"),
        ("", None, 400, "champion or challenger"),
    ],
)
def test_a_header_that_cannot_be_met_is_refused(asked: str, trial: Trial | None, status: int, told: str) -> None:
    with pytest.raises(ProtocolError, match=told) as caught:
        alias_for("x", asked, trial)
    assert caught.value.status == status
