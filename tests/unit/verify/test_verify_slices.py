"""Who pays: each class and slice counted by itself, intervals corrected for their number, and a gate on them."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import DataError
from trimtab.recipe.schema import Budget
from trimtab.verify.accuracy import paired
from trimtab.verify.evidence import Evidence
from trimtab.verify.gate import Check, Decision, decide
from trimtab.verify.slice_check import check_slices
from trimtab.verify.slices import Slice, Slices, compare_slices, largest_drop, together

Make = Callable[..., Evidence]
RIGHT = np.ones(1000, bool)
LABELS = np.arange(1000) % 10
TEN = [f"class {index}" for index in range(10)]


def losing(rows: np.ndarray | list[int]) -> np.ndarray:
    """Answers of a candidate that is right everywhere but on these rows."""
    own = RIGHT.copy()
    own[rows] = False
    return own


def by_name(slices: Slices) -> dict[str, Slice]:
    return {one.name: one for one in slices.measured}


def slices_check(decision: Decision) -> Check:
    return next(check for check in decision.checks if check.name == "slices")


def test_a_row_counts_in_its_class_and_in_every_slice_that_holds_it() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    original = np.array([1, 1, 1, 1, 1, 0], bool)
    candidate = np.array([1, 0, 1, 0, 1, 1], bool)
    night = np.array([0, 1, 1, 1, 0, 1], bool)
    found = by_name(
        compare_slices(original, candidate, labels, ["cat", "dog"], {"night": night, "all": labels >= 0}, 0.9)
    )
    assert {name: (one.paired.lost, one.paired.gained, one.paired.difference.n) for name, one in found.items()} == {
        "cat": (1, 0, 3),
        "dog": (1, 1, 3),
        "night": (2, 1, 4),
        "all": (2, 1, 6),
    }
    assert {name: one.kind for name, one in found.items()} == {
        "cat": "class",
        "dog": "class",
        "night": "recipe",
        "all": "recipe",
    }


def test_each_interval_is_the_paired_one_at_the_confidence_corrected_for_the_number_of_slices() -> None:
    own = losing(np.flatnonzero(LABELS == 3)[:8])
    slices = compare_slices(RIGHT, own, LABELS, TEN, {"half": np.arange(1000) < 500}, 0.95)
    mask = LABELS == 3
    assert by_name(slices)["class 3"].paired == paired(RIGHT[mask], own[mask], 1 - 0.05 / 11)
    assert {one.paired.difference.confidence for one in slices.measured} == {1 - 0.05 / 11}
    assert together(slices) == pytest.approx(0.95)


def test_a_class_without_a_row_is_named_and_not_counted_in_the_correction() -> None:
    slices = compare_slices(RIGHT, RIGHT, LABELS, [*TEN, "unicorn"], {}, 0.95)
    assert slices.unmeasured == ("unicorn",)
    assert slices.measured[0].paired.difference.confidence == 1 - 0.05 / 10


def test_the_worst_is_first_but_who_pays_is_only_a_slice_that_chance_does_not_explain() -> None:
    labels = LABELS.copy()
    labels[labels == 9] = 8
    labels[0] = 9  # one row, lost: −100 points, which may be chance
    own = losing([0, *np.flatnonzero(labels == 3)[:30]])
    slices = compare_slices(RIGHT, own, labels, TEN, {}, 0.95)
    assert slices.worst.name == "class 9"
    assert slices.worst.paired.difference.value == -1
    assert slices.pays_most is not None
    assert slices.pays_most.name == "class 3"
    assert '"class 3": 100.0 % → 70.0 %, −30.00 points' in slices.sentence()


def test_where_chance_explains_every_drop_nobody_is_said_to_pay() -> None:
    slices = compare_slices(RIGHT, losing([3, 13]), LABELS, TEN, {}, 0.95)
    assert slices.pays_most is None
    assert "none is shown to pay" in slices.sentence()
    assert '"class 3"' in slices.sentence()


@pytest.mark.parametrize("mask", [np.ones(999, bool), np.zeros(1000, bool)])
def test_a_slice_of_other_rows_or_of_none_is_refused_by_name(mask: np.ndarray) -> None:
    with pytest.raises(DataError, match="night"):
        compare_slices(RIGHT, RIGHT, LABELS, TEN, {"night": mask}, 0.95)


def test_slices_survive_json_and_their_table_has_a_line_each(make_evidence: Make) -> None:
    own = {'night, "late"': np.arange(1000) < 300}
    slices = compare_slices(RIGHT, losing([3, 13, 23]), LABELS, [*TEN, "unicorn"], own, 0.95)
    evidence = replace(make_evidence(), slices=slices)
    assert Evidence.from_json(json.loads(json.dumps(evidence.to_json(), sort_keys=True))) == evidence
    rows = list(csv.DictReader(io.StringIO(slices.to_csv())))
    assert [row["slice"] for row in rows] == [one.name for one in slices.measured]
    night = next(row for row in rows if row["kind"] == "recipe")
    assert (night["slice"], int(night["rows"]), int(night["lost"])) == ('night, "late"', 300, 3)
    assert float(night["difference"]) == pytest.approx(-0.01)


def test_a_compression_that_hurts_one_class_alone_passes_the_mean_and_fails_that_class(make_evidence: Make) -> None:
    own = losing(np.flatnonzero(LABELS == 3)[:25])
    evidence = replace(
        make_evidence(),
        paired={"gate": paired(RIGHT, own, 0.95)},
        slices=compare_slices(RIGHT, own, LABELS, TEN, {}, 0.95),
    )
    assert decide(evidence, Budget(max_drop=0.05), 0.95).answer == "pass"
    decision = decide(evidence, Budget(max_drop=0.05, max_slice_drop=0.1), 0.95)
    assert decision.answer == "fail"
    assert [check.name for check in decision.checks if check.passed is False] == ["slices"]
    reason = slices_check(decision).reason
    assert '"class 3"' in reason
    assert "25 lost, 0 gained of 100 rows" in reason
    assert "Bonferroni" in reason
    assert "class 4" not in reason


def test_the_lower_end_of_every_slice_passes_and_the_lowest_is_shown() -> None:
    slices = compare_slices(RIGHT, losing([3]), LABELS, TEN, {}, 0.95)
    check, rows = check_slices(slices, 0.11)
    assert (check.passed, rows) == (True, None)
    assert check.interval == by_name(slices)["class 3"].paired.difference
    assert check_slices(slices, -check.interval.low)[0].passed is True  # met exactly
    assert check_slices(slices, -check.interval.low - 1e-6)[0].passed is None


def test_the_correction_decides_a_slice_that_would_pass_alone() -> None:
    own = losing([3])
    mask = LABELS == 3
    alone = paired(RIGHT[mask], own[mask], 0.95).difference.low
    corrected = by_name(compare_slices(RIGHT, own, LABELS, TEN, {}, 0.95))["class 3"].paired.difference.low
    assert corrected < alone
    margin = -(alone + corrected) / 2
    assert check_slices(compare_slices(RIGHT, own, LABELS, TEN, {}, 0.95), margin)[0].passed is None


def test_a_point_beyond_the_margin_is_undecided_while_its_interval_spans_it() -> None:
    slices = compare_slices(RIGHT, losing(np.flatnonzero(LABELS == 3)[:6]), LABELS, TEN, {}, 0.95)
    check, rows = check_slices(slices, 0.055)
    assert (check.passed, rows) == (None, None)
    assert "no number of rows would" in check.reason


def test_a_class_of_one_row_is_undecided_and_says_how_many_rows_would_do(make_evidence: Make) -> None:
    labels = np.array([0] * 600 + [1])
    right = np.ones(601, bool)
    slices = compare_slices(right, right, labels, ["common", "rare"], {}, 0.95)
    decision = decide(replace(make_evidence(), slices=slices), Budget(max_slice_drop=0.05), 0.95)
    check = slices_check(decision)
    assert decision.answer == "undecided"
    assert '"rare"' in check.reason
    assert '"common"' not in check.reason
    own = int(check.reason.split("; about ")[1].split(" more rows")[0])
    enough = np.ones(1 + own, bool)
    assert paired(enough, enough, 1 - 0.05 / 2).difference.low >= -0.05
    assert decision.needed_rows == own * 601, "rare is one row of 601: the whole split has to grow by so much"


def test_a_class_without_a_row_leaves_the_gate_undecided() -> None:
    check, rows = check_slices(compare_slices(RIGHT, RIGHT, LABELS, [*TEN, "unicorn"], {}, 0.95), 0.2)
    assert (check.passed, rows) == (None, None)
    assert 'no row of "unicorn"' in check.reason


def test_two_slices_of_one_name_are_both_looked_at() -> None:
    slices = compare_slices(RIGHT, losing(np.flatnonzero(LABELS == 3)), LABELS, ["same"] * 10, {}, 0.95)
    assert check_slices(slices, 0.2)[0].passed is False


def test_without_a_margin_slices_decide_nothing(make_evidence: Make) -> None:
    slices = compare_slices(RIGHT, ~RIGHT, LABELS, TEN, {}, 0.95)
    decision = decide(replace(make_evidence(), slices=slices), Budget(), 0.95)
    assert decision.answer == "pass"
    assert "slices" not in [check.name for check in decision.checks]


def test_a_margin_without_slices_or_with_uncorrected_intervals_is_refused(make_evidence: Make) -> None:
    with pytest.raises(DataError, match="no slices were measured"):
        decide(make_evidence(), Budget(max_slice_drop=0.1), 0.95)
    slices = compare_slices(RIGHT, RIGHT, LABELS, TEN, {}, 0.95)
    plain = tuple(replace(one, paired=paired(RIGHT[:100], RIGHT[:100], 0.95)) for one in slices.measured)
    with pytest.raises(DataError, match="cannot decide"):
        decide(replace(make_evidence(), slices=replace(slices, measured=plain)), Budget(), 0.95)


RANK = {False: 0, None: 1, True: 2}


@settings(max_examples=25, deadline=None)
@given(lost=st.lists(st.integers(0, 59), max_size=12, unique=True), margin=st.floats(0.0, 0.6), row=st.integers(0, 59))
def test_a_row_more_that_is_right_never_gets_a_worse_answer(lost: list[int], margin: float, row: int) -> None:
    labels, right = np.arange(60) % 3, np.ones(60, bool)
    before = right.copy()
    before[lost] = False
    after = before.copy()
    after[row] = True
    answers = [
        check_slices(compare_slices(right, own, labels, TEN[:3], {}, 0.95), margin)[0].passed for own in (before, after)
    ]
    assert RANK[answers[1]] >= RANK[answers[0]]


def test_the_largest_drop_is_that_of_the_worst_slice_by_point_estimate() -> None:
    lost = losing(np.flatnonzero(LABELS == 3)[:25])
    own = {"late": np.arange(1000) >= 990}
    assert largest_drop(RIGHT, lost, LABELS, TEN, own) == ("class 3", pytest.approx(0.25))
    assert largest_drop(RIGHT, losing([995, 996, 997, 998, 999]), LABELS, TEN, own) == ("late", pytest.approx(0.5))
    assert largest_drop(lost, RIGHT, LABELS, TEN, {})[1] == 0.0  # a gain of one class hides no loss of another
