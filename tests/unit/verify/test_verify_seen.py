"""The original on validation and on the gate: found only where chance does not explain it and where it matters."""

import json

import numpy as np
import pytest
from scipy.stats import fisher_exact

from trimtab.errors import DataError
from trimtab.verify.seen import Seen, has_seen


def answers(right: int, rows: int) -> np.ndarray:
    return np.arange(rows) < right


def test_an_original_that_knows_its_validation_rows_is_found_with_both_figures() -> None:
    seen = has_seen(answers(1998, 2000), answers(1820, 2000), 0.95)
    assert seen.found
    assert "99.90 % of 2,000 validation rows" in seen.sentence()
    assert "91.00 % of 2,000 gate rows" in seen.sentence()
    assert "over-estimated" in seen.sentence()


@pytest.mark.parametrize(
    ("validation", "gate", "why"),
    [
        ((92, 100), (88, 100), "chance"),
        ((99_000, 100_000), (97_500, 100_000), "less than two points"),
        ((1820, 2000), (1998, 2000), "better on the gate"),
        ((1900, 2000), (1900, 2000), "the same"),
    ],
)
def test_nothing_is_found_where(validation: tuple[int, int], gate: tuple[int, int], why: str) -> None:
    seen = has_seen(answers(*validation), answers(*gate), 0.95)
    assert not seen.found, why
    assert "no sign" in seen.sentence()
    assert "over-estimated" not in seen.sentence()


def test_the_p_value_is_fishers_one_sided() -> None:
    seen = has_seen(answers(45, 50), answers(70, 90), 0.95)
    expected = fisher_exact([[45, 5], [70, 20]], alternative="greater").pvalue
    assert seen.p_value == pytest.approx(expected)


def test_false_finds_are_rarer_than_the_level_where_validation_is_no_better() -> None:
    random = np.random.default_rng(0)
    hits = random.binomial(300, 0.9, size=(1000, 2))
    found = [has_seen(answers(int(a), 300), answers(int(b), 300), 0.95).found for a, b in hits]
    assert sum(found) <= 5  # 1 expected at the level itself


def test_it_survives_json_and_refuses_a_split_without_rows() -> None:
    seen = has_seen(answers(9, 10), answers(5, 10), 0.95)
    assert Seen.from_json(json.loads(json.dumps(seen.to_json()))) == seen
    with pytest.raises(DataError):
        has_seen(answers(0, 0), answers(5, 10), 0.95)
