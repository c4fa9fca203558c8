"""Direct loss estimation: it finds where errors are large and is silent where inputs do not tell; no pickle."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from trimtab.errors import DataError
from trimtab.monitoring.loss_model import LEAF_ROWS, SEED, LossModel, fit

Array = np.ndarray


def world(seed: int, n: int, slope: float = 3.0) -> tuple[dict[str, Array], Array, Array]:
    """Columns, answers and labels; errors grow with the first column."""
    random = np.random.default_rng(seed)
    columns = {"x": random.uniform(0, 1, n), "y": random.normal(size=n)}
    label = random.normal(size=(n, 1)) * 10
    error = (1 + slope * columns["x"][:, None]) * random.normal(size=(n, 1))
    return {**columns, "prediction": (label + error)[:, 0]}, label + error, label


@pytest.mark.parametrize("squared", [True, False])
def test_a_window_of_hard_rows_is_expected_to_be_worse(squared: bool) -> None:
    model = fit(*world(0, 1500), squared)
    assert model.leaves > 1
    columns, answers, label = world(1, 1000)
    hard = columns["x"] > 0.8
    easy, difficult = (model.expected({name: one[rows] for name, one in columns.items()}) for rows in (~hard, hard))
    loss = np.square(answers - label)[:, 0] if squared else np.abs(answers - label)[:, 0]
    assert difficult[0] == pytest.approx(loss[hard].mean(), rel=0.35)
    assert easy[0] == pytest.approx(loss[~hard].mean(), rel=0.35)
    assert difficult[0] > 1.5 * easy[0]


def test_where_inputs_do_not_tell_it_is_the_held_out_error_itself() -> None:
    columns, answers, label = world(2, 300, slope=0.0)
    model = fit(columns, answers, label, squared=True)
    assert model.leaves == 1
    mean, error = model.expected({name: one[:50] for name, one in columns.items()})
    assert mean == pytest.approx(np.square(answers - label).mean())
    spread = np.square(answers - label).var()
    assert error == pytest.approx(np.sqrt(spread / 50 + spread / 300))


def test_the_kept_arrays_answer_as_scikit_learns_tree_does() -> None:
    columns, answers, label = world(3, 800)
    model = fit(columns, answers, label, squared=True)
    names = model.columns
    table = np.column_stack([columns[name] for name in names]).astype(np.float32)
    tree = DecisionTreeRegressor(max_leaf_nodes=model.leaves, min_samples_leaf=LEAF_ROWS, random_state=SEED)
    tree.fit(table, np.square(answers - label)[:, 0])
    fresh, _, _ = world(4, 200)
    expected = tree.predict(np.column_stack([fresh[name] for name in names]).astype(np.float32))
    for row in range(0, 200, 20):
        mean, _ = model.expected({name: one[row : row + 1] for name, one in fresh.items()})
        assert mean == pytest.approx(expected[row])


def test_its_interval_holds_what_is_measured_later() -> None:
    held = 0
    for seed in range(25):
        model = fit(*world(seed, 400), squared=False)
        columns, answers, label = world(1000 + seed, 150)
        mean, error = model.expected(columns)
        held += abs(mean - np.abs(answers - label).mean()) <= 1.96 * error
    assert held >= 21


def test_values_that_are_not_finite_and_empty_columns_do_no_harm() -> None:
    columns, answers, label = world(5, 200)
    columns["x"][::7] = np.nan
    columns["x"][3] = np.inf
    columns["empty"] = np.full(200, np.nan)
    columns["huge"] = np.where(np.arange(200) % 2, 1e300, 0.0)
    model = fit(columns, answers, label, squared=True)
    assert "empty" not in model.columns
    assert np.isfinite(model.expected(columns)).all()


def test_a_model_survives_json() -> None:
    model = fit(*world(6, 500), squared=True)
    assert LossModel.from_json(json.loads(json.dumps(model.to_json(), allow_nan=False))) == model


def test_too_few_rows_and_several_outputs_are_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(10, 1\)"):
        fit(*world(7, 10), squared=True)
    columns, answers, label = world(8, 100)
    with pytest.raises(DataError, match=r"shape \(100, 2\)"):
        fit(columns, np.hstack([answers, answers]), np.hstack([label, label]), squared=True)
