"""What is learnt of inputs that are watched by descriptors: range and components, without fooling itself."""

from __future__ import annotations

import json

import monitoring_world as world
import numpy as np
import pytest

from trimtab.monitoring import pca
from trimtab.monitoring import profile as profiles
from trimtab.monitoring.columns import columns, fit_inputs, input_kinds
from trimtab.monitoring.descriptors import Fitted, described, fit, form_of
from trimtab.monitoring.drift import compare
from trimtab.monitoring.judge import judge
from trimtab.monitoring.pca import Pca

Array = np.ndarray


def low_rank(rng: np.random.Generator, rows: int, size: int = 8) -> Array:
    """Images that are mixtures of three patterns, with a little noise."""
    patterns = np.random.default_rng(99).normal(size=(3, 1, size, size))
    weights = rng.normal(size=(rows, 3))
    return (np.tensordot(weights, patterns, 1) + 0.1 * rng.normal(size=(rows, 1, size, size))).astype(np.float32)


def release(values: Array) -> tuple[profiles.Profile, dict[str, Array]]:
    n = len(values)
    return profiles.build({"x": values}, np.tile([0.9, 0.1], (n, 1)), np.zeros(n, np.int64))


def now(values: Array, profile: profiles.Profile) -> dict[str, Array]:
    output = np.tile([0.9, 0.1], (len(values), 1))
    return columns({"x": values}, output, output.argmax(1), output.max(1), profile.kinds, profile.fitted)


def test_the_error_of_rebuilding_is_small_where_rows_are_alike_and_large_where_they_are_not() -> None:
    rng = np.random.default_rng(0)
    found = pca.fit(low_rank(rng, 400))
    assert found is not None
    assert found.components.shape == (3, 64)
    strange = rng.normal(size=(50, 1, 8, 8))
    assert found.error(low_rank(rng, 50)).max() < 0.2 < found.error(strange).min()


def test_a_row_has_the_same_error_whatever_rows_it_comes_with() -> None:
    rng = np.random.default_rng(0)
    rows = low_rank(rng, 1500)
    found = pca.fit(rows)
    assert found is not None
    np.testing.assert_array_equal(found.error(rows)[1000:1010], found.error(rows[1000:1010]))


def test_large_images_are_averaged_and_a_broken_one_breaks_its_own_error_only() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((60, 3, 50, 40)).astype(np.float32)
    assert pca.reduced(rows).shape[1] <= 1024
    assert pca.reduced(rows).mean() == pytest.approx(rows.mean(), rel=0.01)
    assert pca.reduced(rng.random((5, 5000))).shape == (5, 1000)
    found = pca.fit(rows)
    assert found is not None
    rows[3, 0, 0, 0] = np.inf
    assert np.flatnonzero(np.isnan(found.error(rows))).tolist() == [3]


def test_nothing_is_fitted_where_there_is_nothing_to_fit() -> None:
    assert pca.fit(np.ones((100, 80))) is None
    assert pca.fit(np.random.default_rng(0).random((49, 80))) is None
    assert fit(np.ones((100, 80), np.int64)).pca is None


def test_components_survive_json() -> None:
    found = pca.fit(low_rank(np.random.default_rng(0), 100))
    assert found is not None
    assert Pca.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_fresh_rows_like_the_reference_do_not_drift_though_it_was_learnt_from() -> None:
    """Few rows of many numbers: components fit the rows they were learnt from much better than any others."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(12):
        profile, reference = release(rng.normal(size=(200, 1, 12, 12)).astype(np.float32))
        found = compare(now(rng.normal(size=(300, 1, 12, 12)), profile), reference, profile, 0.05).results
        assert {"x.reconstruction", "x.out_of_range"} <= {result.name for result in found}
        alarms += any(result.drifted for result in found if result.name in ("x.reconstruction", "x.out_of_range"))
    assert alarms <= 2


def test_rows_off_the_plane_drift_though_their_brightness_and_contrast_do_not() -> None:
    rng = np.random.default_rng(0)
    profile, reference = release(low_rank(rng, 600))
    rows = low_rank(rng, 300)
    shuffled = rng.permuted(rows.reshape(300, -1), axis=1).reshape(rows.shape)  # mean and spread stay
    drifted = {
        result.name for result in compare(now(shuffled, profile), reference, profile, 0.01).results if result.drifted
    }
    assert "x.reconstruction" in drifted
    assert not {"x.mean", "x.std"} & drifted


def test_values_out_of_the_reference_s_range_are_found() -> None:
    rng = np.random.default_rng(0)
    profile, reference = release(rng.random((300, 1, 8, 8)).astype(np.float32))
    results = compare(now(2 * rng.random((200, 1, 8, 8)), profile), reference, profile, 0.01).results
    assert "x.out_of_range" in {result.name for result in results if result.drifted}


def test_channels_and_lengths_by_hand() -> None:
    image = np.stack([np.full((2, 4, 4), value) for value in (1.0, 2.0, 3.0)], axis=1)
    found = described(image, form_of(image), None)
    assert [found[f"channel[{i}]"].tolist() for i in range(3)] == [[1, 1], [2, 2], [3, 3]]
    tokens = np.array([[5, 6, 0, 7, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    assert described(tokens, "sequence", None)["length"].tolist() == [4, 0, 6]
    steps = np.zeros((1, 5, 2))
    steps[0, 2, 1] = 1.0
    assert described(steps, "sequence", None)["length"].tolist() == [3]


def test_rows_of_another_shape_lack_the_columns_that_need_the_old_one_and_nothing_breaks() -> None:
    rng = np.random.default_rng(0)
    profile, reference = release(rng.random((200, 1, 8, 8)).astype(np.float32))
    for odd in (rng.random((60, 1, 9, 9)), rng.random(60), rng.random((60, 3))):
        found = {r.name: r for r in compare(now(odd, profile), reference, profile, 0.01).results}
        assert found["x.reconstruction"].findings[0].code == "missing"


def test_a_release_that_was_profiled_before_is_judged_as_it_was() -> None:
    """profile.json without forms, fits and own descriptors; five descriptors of an input, and no more."""
    profile, reference = world.release()
    old = {key: value for key, value in profile.to_json().items() if key not in ("fitted", "own")}
    old["kinds"] = {"input": "descriptors"}
    old["columns"] = [c for c in old["columns"] if not c["name"].endswith((".reconstruction", ".out_of_range"))]
    known = profiles.Profile.from_json(json.loads(json.dumps(old)))
    kept = {
        name: values for name, values in reference.items() if not name.endswith((".reconstruction", ".out_of_range"))
    }
    assert judge(world.window(), known, kept, world.MONITORING).kind == "healthy"
    drifted = judge(world.window(contrast=0.5), known, kept, world.MONITORING)
    assert "input.std" in drifted.drifted
    assert [column.name for column in drifted.columns if column.name.startswith("input.")] == [
        f"input.{name}" for name in ("mean", "std", "sharpness", "low_share", "high_share")
    ]


def test_fits_are_of_every_other_row_and_the_rows_between_are_the_reference() -> None:
    values = np.random.default_rng(0).random((200, 1, 8, 8)).astype(np.float32)
    values[1, 0, 0, 0] = 9.0  # in a row that is not learnt from
    kinds = input_kinds({"x": values})
    fitted = fit_inputs({"x": values}, kinds)["x"]
    assert isinstance(fitted, Fitted)
    assert fitted.high < 1
    _, reference = release(values)
    assert np.isnan(reference["x.out_of_range"][::2]).all()
    assert reference["x.out_of_range"][1] == pytest.approx(1 / 64)
