from __future__ import annotations

import numpy as np
import pytest

from trimtab.descriptors import NAMES, descriptors
from trimtab.monitoring.columns import columns, entropy, input_kinds


def test_a_narrow_table_is_watched_feature_by_feature_and_a_wide_one_by_descriptors() -> None:
    inputs = {"a": np.ones((5, 64)), "b": np.ones((5, 65)), "c": np.arange(5), "d": np.ones((5, 3, 4))}
    assert input_kinds(inputs) == {"a": "tabular", "b": "descriptors", "c": "tabular", "d": "descriptors"}


def test_columns_are_named_after_their_input_and_hold_its_values() -> None:
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    output = np.array([[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]])
    got = columns({"x": table}, output, np.array([0, 0, 1]), output.max(axis=1), {"x": "tabular"})
    assert list(got) == ["x[0]", "x[1]", "confidence", "entropy", "predicted"]
    np.testing.assert_array_equal(got["x[1]"], [1, 3, 5])
    np.testing.assert_allclose(got["entropy"], [np.log(2), 0, -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))])
    assert got["predicted"].dtype == np.int64


def test_without_journalled_inputs_the_answers_are_still_watched() -> None:
    output = np.full((4, 2), 0.5)
    got = columns(None, output, np.zeros(4), np.full(4, 0.5), {"x": "tabular"})
    assert list(got) == ["confidence", "entropy", "predicted"]


def test_entropy_of_a_row_that_is_not_finite_is_nan_and_the_others_are_right() -> None:
    got = entropy(np.array([[np.nan, 1.0], [0.5, 0.5]]))
    assert np.isnan(got[0])
    assert got[1] == pytest.approx(np.log(2))


@pytest.mark.parametrize("shape", [(7, 3, 8, 8), (7, 8, 8), (7, 100), (7, 1, 2, 9), (7, 65, 1), (7, 1, 1)])
def test_descriptors_take_images_sequences_and_wide_vectors(shape: tuple[int, ...]) -> None:
    got = descriptors(np.random.default_rng(0).random(shape))
    assert tuple(got) == NAMES
    assert all(values.shape == (7,) and np.isfinite(values).all() for values in got.values())


def test_descriptors_by_hand_on_one_bright_pixel() -> None:
    image = np.zeros((1, 3, 3))
    image[0, 1, 1] = 9.0
    got = {name: float(values[0]) for name, values in descriptors(image).items()}
    assert got["mean"] == 1.0
    assert got["std"] == pytest.approx(np.sqrt(8.0))
    assert got["sharpness"] == 36.0  # |0 + 0 + 0 + 0 - 4 * 9|
    assert got["low_share"] == pytest.approx(8 / 9)
    assert got["high_share"] == pytest.approx(1 / 9)


def test_blur_lowers_sharpness_and_less_contrast_lowers_std() -> None:
    rng = np.random.default_rng(1)
    sharp = rng.random((20, 1, 8, 8))
    blurred = (sharp + np.roll(sharp, 1, axis=-1) + np.roll(sharp, 1, axis=-2)) / 3
    assert (descriptors(blurred)["sharpness"] < descriptors(sharp)["sharpness"]).mean() > 0.9
    np.testing.assert_allclose(descriptors(0.5 * sharp)["std"], 0.5 * descriptors(sharp)["std"])


def test_one_broken_image_breaks_its_own_descriptors_only() -> None:
    batch = np.random.default_rng(0).random((4, 1, 5, 5))
    batch[2, 0, 1, 1] = np.nan
    batch[3, 0, 1, 1] = np.inf
    for values in descriptors(batch).values():
        assert np.isfinite(values[:2]).all()
        assert not np.isfinite(values[2])
        assert not np.isfinite(values[3])


def test_integer_and_boolean_images_are_taken() -> None:
    assert descriptors(np.ones((2, 5, 5), bool))["mean"].tolist() == [1.0, 1.0]
    assert descriptors(np.full((2, 5, 5), 255, np.uint8))["sharpness"].tolist() == [0.0, 0.0]
