"""The calibration map: it mends what it can express, stays out of the way where nothing is wrong, and is monotone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import DataError
from trimtab.monitoring.calibration import CalibrationMap, fit

Array = np.ndarray


def drawn(random: np.random.Generator, true: Array) -> Array:
    return np.minimum((np.cumsum(true, axis=1) < random.random(len(true))[:, None]).sum(axis=1), true.shape[1] - 1)


def tempered(true: Array, temperature: float) -> Array:
    powers = true ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sample(seed: int, n: int, stated_temperature: float = 1.0, classes: int = 3) -> tuple[Array, Array]:
    """What a model states whose probabilities have the wrong temperature, and the labels drawn from the right ones."""
    random = np.random.default_rng(seed)
    true = random.dirichlet(np.full(classes, 0.5), n)
    return tempered(true, stated_temperature), drawn(random, true)


@pytest.mark.parametrize("stated", [0.4, 1.0, 2.0])
def test_a_wrong_temperature_is_found_and_its_spread_covers_the_truth(stated: float) -> None:
    found = fit(*sample(0, 3000, stated))
    assert found.kind == "temperature"
    # Stating with temperature s needs the inverse to come back.
    assert found.log_temperature == pytest.approx(-np.log(stated), abs=4 * found.log_spread)
    assert 0.005 < found.log_spread < 0.1


def test_what_a_temperature_cannot_mend_is_mended_class_by_class() -> None:
    random = np.random.default_rng(1)
    true = random.dirichlet([1, 1], 4000)
    stated = np.column_stack([true[:, 0] ** 3, 1 - true[:, 0] ** 3])  # leans to the second class
    found = fit(stated, drawn(random, true))
    assert found.kind == "isotonic"
    assert np.abs(found.apply(stated) - true).mean() < 0.03
    assert np.abs(stated - true).mean() > 0.2


def test_a_model_that_was_never_wrong_is_not_taken_for_infallible() -> None:
    label = np.arange(300) % 3
    stated = np.full((300, 3), 0.01)
    stated[np.arange(300), label] = 0.98
    found = fit(stated, label)
    calibrated = found.apply(np.array([[0.6, 0.3, 0.1]]))
    assert calibrated[0, 0] < 0.99
    assert found.error.value <= 0


def test_its_error_is_that_on_rows_it_was_not_fitted_on() -> None:
    found = fit(*sample(2, 2000))
    assert found.error.n == 2000
    assert found.error.low < 0 < found.error.high
    assert abs(found.error.value) < 0.02


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.3, 3), classes=st.integers(2, 5))
def test_rows_stay_probabilities_and_a_surer_answer_is_never_less_sure_afterwards(
    seed: int, temperature: float, classes: int
) -> None:
    stated, label = sample(seed, 120, temperature, classes)
    found = fit(stated, label)
    random = np.random.default_rng(seed)
    for given_ in (found.apply(stated), found.drawn(stated, random)):
        assert given_.min() >= 0
        assert given_.sum(axis=1) == pytest.approx(np.ones(120))
    ladder = np.linspace(0.01, 0.99, 50)
    two = np.column_stack([ladder, *[(1 - ladder) / (classes - 1)] * (classes - 1)])
    if found.kind == "temperature":
        assert (np.diff(found.apply(two)[:, 0]) >= -1e-12).all()


def test_isotonic_levels_rise_also_when_they_are_drawn() -> None:
    random = np.random.default_rng(3)
    true = random.dirichlet([1, 1], 3000)
    stated = np.column_stack([true[:, 0] ** 3, 1 - true[:, 0] ** 3])
    found = fit(stated, drawn(random, true))
    ladder = np.linspace(0, 1, 200)
    pair = np.column_stack([ladder, 1 - ladder])
    assert (np.diff(found.apply(pair)[:, 0]) >= -1e-12).all()
    many = np.array([found.drawn(pair, random)[:, 0] for _ in range(50)])
    assert (np.diff(many, axis=1) >= -1e-12).all()
    assert np.abs(many.mean(axis=0) - found.apply(pair)[:, 0]).max() < 0.15
    assert many.std(axis=0).max() > 0.001


def test_equal_probabilities_share_a_block_and_many_classes_have_a_temperature_only() -> None:
    stated = np.repeat([[0.8, 0.2], [0.3, 0.7]], 100, axis=0)
    label = np.concatenate([np.arange(100) % 4 == 0, np.arange(100) % 2 == 0]).astype(int)
    assert fit(stated, label).apply(np.array([[0.8, 0.2]])).shape == (1, 2)
    output, labels = sample(4, 400, classes=60)
    assert fit(output, labels).kind == "temperature"


@pytest.mark.parametrize("stated", [1.0, 0.3])
def test_a_map_survives_json(stated: float) -> None:
    random = np.random.default_rng(5)
    true = random.dirichlet([1, 1], 1500)
    bent = np.column_stack([true[:, 0] ** (1 / stated), 1 - true[:, 0] ** (1 / stated)])
    found = fit(bent, drawn(random, true))
    again = CalibrationMap.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again == found
    np.testing.assert_array_equal(again.apply(bent), found.apply(bent))


def test_too_few_rows_and_answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="4 held-out rows"):
        fit(np.full((4, 2), 0.5), np.zeros(4, int))
    with pytest.raises(DataError, match="not finite"):
        fit(np.full((40, 2), np.nan), np.zeros(40, int))
