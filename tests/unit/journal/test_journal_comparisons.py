"""Outcomes on disk: summed by pair of versions, there again after a kill, folded when large, refused if damaged."""

from __future__ import annotations

import errno
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import StateError
from trimtab.journal.comparisons import FILE, Comparisons, read_tallies
from trimtab.journal.outcomes import Outcome, Tally, summed


def outcome(**changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "kind": "shadow", "champion": "1", "challenger": "2", "request_id": "r", "time_ns": 5, "rows": 2, "agreed": 1,
        "difference": 0.25, "ratio": 2.0,
    }  # fmt: skip
    return Outcome(**{**values, **changes})


FAILED = outcome(error="RuntimeError", agreed=0, difference=None, ratio=None)
CANARY = outcome(kind="canary", agreed=0, difference=None, ratio=None, rows=7)


def test_a_tally_is_the_sum_of_its_outcomes() -> None:
    found = summed([outcome(), outcome(ratio=0.5, agreed=2, difference=0.5, time_ns=9), FAILED, CANARY])["1", "2"]
    assert (found.requests, found.shadowed, found.canaried, found.failed) == (4, 3, 1, 1)
    assert (found.rows, found.agreed, found.agreement) == (4, 3, 0.75)
    assert (found.difference, found.errors, found.error_rate) == (0.5, {"RuntimeError": 1}, 0.25)
    assert found.latency_ratio == pytest.approx(1.0)
    assert (found.first_ns, found.last_ns) == (5, 9)


def test_what_was_never_measured_is_none() -> None:
    empty = Tally("1", "2")
    assert (empty.agreement, empty.error_rate, empty.latency_ratio, empty.difference) == (None, None, None, None)
    assert summed([CANARY])["1", "2"].agreement is None


def test_pairs_are_apart_and_found_again_by_another_process(tmp_path: Path) -> None:
    comparisons = Comparisons(tmp_path)
    for one in (outcome(), FAILED, outcome(champion="3", time_ns=8)):
        assert comparisons.add(one)
    assert read_tallies(tmp_path) == {("1", "2"): comparisons.tally("1", "2"), ("3", "2"): comparisons.tally("3", "2")}
    assert [tally.champion for tally in comparisons.tallies()] == ["3", "1"]
    comparisons.close()
    assert not comparisons.add(outcome())
    assert Comparisons(tmp_path).tally("1", "2").shadowed == 2
    assert read_tallies(tmp_path / "nothing") == {}


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_last_line_that_a_kill_cut_is_left_out_and_writing_goes_on(tmp_path: Path, cut: int) -> None:
    first = Comparisons(tmp_path)
    for index in range(3):
        first.add(outcome(request_id=f"r{index}"))
    first.close()
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_tallies(tmp_path)["1", "2"].shadowed == 2
    again = Comparisons(tmp_path)
    again.add(outcome())
    assert read_tallies(tmp_path)["1", "2"].shadowed == again.tally("1", "2").shadowed == 3


@pytest.mark.parametrize("damage", ["flip", "swap"])
def test_a_damaged_line_is_an_error_to_readers_and_is_moved_aside_by_the_writer(tmp_path: Path, damage: str) -> None:
    first = Comparisons(tmp_path)
    for index in range(3):
        first.add(outcome(request_id=f"r{index}"))
    first.close()
    path = tmp_path / FILE
    data = path.read_bytes()
    at = data.index(b"r1")
    path.write_bytes(data[:at] + (b"r9" if damage == "flip" else b"r1\n") + data[at + 2 :])
    with pytest.raises(StateError, match="damaged"):
        read_tallies(tmp_path)
    again = Comparisons(tmp_path)
    assert again.tallies() == []
    again.add(outcome())
    assert read_tallies(tmp_path)["1", "2"].shadowed == 1
    assert len(list(tmp_path.glob(f"{FILE}.damaged-*"))) == 1


def test_a_file_that_grows_is_folded_and_says_the_same(tmp_path: Path) -> None:
    comparisons = Comparisons(tmp_path, largest=4000)
    for index in range(200):
        comparisons.add(outcome(champion=str(index % 3), request_id=f"r{index}"))
    assert (tmp_path / FILE).stat().st_size <= 4000
    found = read_tallies(tmp_path)
    assert sum(tally.shadowed for tally in found.values()) == 200
    assert list(found.values()) == [comparisons.tally(*pair) for pair in found]


def test_a_full_disk_loses_the_outcome_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparisons = Comparisons(tmp_path)
    comparisons.add(outcome())
    real, calls = os.write, []

    def full(handle: int, data: Any) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, bytes(data)[:10])

    monkeypatch.setattr(os, "write", full)
    assert not comparisons.add(outcome())
    monkeypatch.setattr(os, "write", real)
    assert comparisons.tally("1", "2").shadowed == 1
    assert comparisons.add(outcome())
    assert read_tallies(tmp_path)["1", "2"].shadowed == 2


@given(
    st.lists(
        st.builds(
            outcome,
            kind=st.sampled_from(["shadow", "canary"]),
            champion=st.sampled_from(["1", "2"]),
            error=st.sampled_from([None, "RuntimeError", "NotFinite"]),
            rows=st.integers(1, 9),
            difference=st.none() | st.floats(0, 10),
            ratio=st.none() | st.floats(1e-6, 1e6),
        ),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_a_sum_can_be_taken_in_two_parts_with_json_between(outcomes: list[Outcome], at: int) -> None:
    whole = summed(outcomes)
    first = {pair: Tally.from_json(tally.to_json()) for pair, tally in summed(outcomes[:at]).items()}
    rest = [Outcome.from_json(one.to_json()) for one in outcomes[at:]]
    parts = summed(rest, first)
    assert parts.keys() == whole.keys()
    for pair, tally in parts.items():
        assert replace(tally, log_ratio=0.0) == replace(whole[pair], log_ratio=0.0)
        assert math.isclose(tally.log_ratio, whole[pair].log_ratio, abs_tol=1e-9)
