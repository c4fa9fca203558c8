"""Attributions: parts that cover an input once, occlusion that finds what a model looks at, and how alike two are."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import UnsupportedError
from trimtab.recipe.schema import Budget, Explain
from trimtab.task import CLASSIFICATION, Task
from trimtab.verify.attribution import gradients
from trimtab.verify.attribution.agreement import Agreement, compare_attributions
from trimtab.verify.attribution.explainer import check_explain, explainer, why_unexplained
from trimtab.verify.attribution.occlusion import log_odds, number, occlusion
from trimtab.verify.attribution.picture import figure
from trimtab.verify.attribution.regions import divide, usual


class Linear:
    """Two classes; log-odds of the first are the weighted sum of the input. Counts its largest batch."""

    def __init__(self, weight: np.ndarray) -> None:
        self.weight, self.largest = weight, 0

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = inputs["input"].astype(np.float64).reshape(len(inputs["input"]), -1)
        self.largest = max(self.largest, len(values))
        chance = 1 / (1 + np.exp(-values @ self.weight.ravel()))
        return {"probabilities": np.stack([chance, 1 - chance], axis=1)}


@settings(max_examples=40, deadline=None)
@given(shape=st.lists(st.integers(1, 70), min_size=0, max_size=3), patch=st.none() | st.integers(1, 9))
def test_regions_cover_every_value_of_a_row_exactly_once(shape: list[int], patch: int | None) -> None:
    inputs = {"input": np.zeros((1, *shape), np.float32)}
    covered = np.zeros(shape, int)
    for region in divide(inputs, patch).regions:
        covered[region.place] += 1
    assert (covered == 1).all()


def test_an_image_is_cut_into_an_eighth_of_its_side_and_many_inputs_have_no_grid() -> None:
    layout = divide({"input": np.zeros((1, 3, 32, 40), np.float32)})
    assert (layout.side, layout.grid, len(layout.regions)) == (4, (8, 10), 80)
    both = divide({"ids": np.zeros((1, 5), np.int64), "size": np.zeros((1,), np.float32)})
    assert both.grid is None
    assert [region.input for region in both.regions] == ["ids"] * 5 + ["size"]


def test_what_is_usual_is_a_mean_of_floats_and_the_most_frequent_of_integers() -> None:
    images = np.stack([np.full((2, 2), 1.0), np.full((2, 2), 3.0)])[None].repeat(3, 0).astype(np.float32)
    found = usual({"image": images, "ids": np.array([[1, 9], [1, 9], [7, 8]]), "x": np.array([[1.0], [2.0], [6.0]])})
    assert found["image"][:, 0, 0].tolist() == [1.0, 3.0]
    assert found["ids"].tolist() == [1, 9]
    assert found["ids"].dtype == np.int64
    assert found["x"].tolist() == [3.0]


def test_occlusion_gives_each_column_of_a_linear_model_its_own_share() -> None:
    weight, rows = np.array([2.0, -1.0, 0.0]), np.array([[1.0, 1.0, 5.0], [3.0, 0.0, 1.0]])
    inputs = {"input": rows}
    found = occlusion(Linear(weight), inputs, np.array([0, 0]), divide(inputs), {"input": np.array([1.0, 0.5, 0.0])})
    assert found == pytest.approx((rows - [1.0, 0.5, 0.0]) * weight)
    other = occlusion(Linear(weight), inputs, np.array([1, 1]), divide(inputs), {"input": np.array([1.0, 0.5, 0.0])})
    assert other == pytest.approx(-found)


def test_occlusion_of_a_regression_gives_each_column_its_share_of_the_number_that_is_asked_for() -> None:
    weights, rows = np.array([[2.0, -1.0, 0.0], [0.0, 5.0, 1.0]]), np.array([[1.0, 1.0, 5.0], [3.0, 0.0, 1.0]])
    model: Any = SimpleNamespace(predict=lambda inputs: {"prediction": 7 + inputs["input"] @ weights.T})
    inputs, away = {"input": rows}, np.array([1.0, 0.5, 0.0])
    found = occlusion(model, inputs, np.array([1, 0]), divide(inputs), {"input": away}, worth=number)
    assert found == pytest.approx((rows - away) * weights[[1, 0]])


def test_a_model_whose_rows_depend_on_each_other_is_asked_one_by_one() -> None:
    model, inputs = Linear(np.ones(6)), {"input": np.ones((2, 6))}
    occlusion(model, inputs, np.array([0, 0]), divide(inputs), {"input": np.zeros(6)}, rows_a_call=1)
    assert model.largest == 1


def test_log_odds_tell_sure_answers_apart_that_float32_calls_one() -> None:
    sure = np.array([[1.0, 1e-9, 0.0], [1.0, 1e-12, 0.0]], np.float32)
    found = log_odds(sure, np.array([0, 0]))
    assert found == pytest.approx([np.log(1e9), np.log(1e12)], rel=1e-3)
    assert np.isfinite(log_odds(np.array([[1.0, 0.0]]), np.array([1]))).all()


def test_equal_attributions_agree_wholly_and_reversed_ones_not_at_all() -> None:
    values = np.random.default_rng(0).normal(size=(6, 40))
    same = compare_attributions(values, 3 * values, range(6), [0] * 6, 0.95, "occlusion")
    assert (same.correlation.value, same.overlap.value, same.top) == (pytest.approx(1), 1, 4)
    turned = compare_attributions(values, -values, range(6), [0] * 6, 0.95, "occlusion")
    assert turned.correlation.value == pytest.approx(-1)
    assert turned.overlap.value == 1, "what weighs most weighs most whichever way it speaks"


def test_the_interval_is_students_and_the_least_alike_row_is_shown_first() -> None:
    original = np.tile(np.arange(10.0), (3, 1))
    candidate = original.copy()
    candidate[1, [0, 9]] = candidate[1, [9, 0]]
    found = compare_attributions(original, candidate, [5, 8, 11], [2, 2, 2], 0.9, "occlusion")
    rank = 1 - 6 * (2 * 81) / 990
    mean, deviation = (2 + rank) / 3, np.std([1, 1, rank], ddof=1)
    assert found.correlation.value == pytest.approx(mean)
    assert found.correlation.low == pytest.approx(mean - 2.919986 * deviation / np.sqrt(3))
    assert found.correlation.high == 1.0
    assert found.examples[0].row == 8
    assert Agreement.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


def test_rows_that_nothing_changes_are_counted_and_of_one_model_alone_count_as_zero() -> None:
    original, candidate = np.zeros((3, 5)), np.zeros((3, 5))
    original[1:] = np.arange(5.0)
    candidate[1] = np.arange(5.0)
    found = compare_attributions(original, candidate, range(3), [0] * 3, 0.95, "occlusion")
    assert (found.without, found.correlation.n, found.samples) == (1, 2, 3)
    assert found.correlation.value == pytest.approx(0.5)
    nothing = compare_attributions(np.zeros((3, 5)), np.zeros((3, 5)), range(3), [0] * 3, 0.95, "occlusion")
    assert (nothing.correlation.n, nothing.correlation.low, nothing.correlation.high) == (0, -1.0, 1.0)


def bench(
    shape: tuple[int, ...],
    dtype: Any = np.float32,
    explain: Explain | None = None,
    least: float | None = None,
    task: Task = CLASSIFICATION,
):
    class Split(SimpleNamespace):
        def __len__(self) -> int:
            return 30

    split = Split(inputs={"input": np.arange(30 * int(np.prod(shape))).reshape(30, *shape).astype(dtype)})
    return SimpleNamespace(
        recipe=SimpleNamespace(
            verify=SimpleNamespace(explain=explain), budget=Budget(min_attribution_correlation=least)
        ),
        example={"input": split.inputs["input"][:4]},
        splits={"train": split, "validation": split},
        task=task,
    )


def test_what_cannot_be_explained_is_left_out_with_the_reason_and_refused_where_the_budget_asks() -> None:
    for made, reason in (
        (bench((1, 2, 2, 2), explain=Explain()), "no image, sequence or table"),
        (bench((1,), explain=Explain()), "one part"),
        (bench((4,)), "null"),
    ):
        assert reason in str(why_unexplained(made))
        assert explainer(made) is None
        check_explain(made)
    with pytest.raises(UnsupportedError, match="one part"):
        check_explain(bench((1,), explain=Explain(), least=0.5))


def test_the_same_rows_are_explained_each_time_and_never_more_than_there_are() -> None:
    one, two = (explainer(bench((4,), explain=Explain(samples=8))) for _ in range(2))
    assert one is not None
    assert two is not None
    assert one.rows.tolist() == two.rows.tolist()
    assert len(set(one.rows)) == 8
    every = explainer(bench((4,), explain=Explain(samples=99)))
    assert every is not None
    assert every.rows.tolist() == list(range(30))


def test_a_class_is_explained_as_decided_and_of_a_regression_its_numbers_take_turns() -> None:
    answers = np.array([[0.1, 0.2, 0.7], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])
    for task, expected in ((CLASSIFICATION, [2, 0, 1, 2]), (Task("regression", "rmse"), [0, 1, 2, 0])):
        made = explainer(bench((4,), explain=Explain(samples=4), task=task))
        assert made is not None
        assert made.decided(answers).tolist() == expected


def test_a_missing_captum_is_named_with_the_command_and_whole_numbers_have_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings_ = Explain(method="integrated_gradients")
    monkeypatch.setattr(gradients, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'trimtab\[explain\]'"):
        check_explain(bench((4,), explain=settings_))
    monkeypatch.setattr(gradients, "find_spec", lambda name: object())
    check_explain(bench((4,), explain=settings_))
    with pytest.raises(UnsupportedError, match="whole numbers: input"):
        check_explain(bench((4,), np.int64, settings_))


def test_integrated_gradients_add_up_to_the_change_of_the_log_odds() -> None:
    pytest.importorskip("captum", reason="captum is an optional extra: pip install 'trimtab[explain]'")
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(32, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3), torch.nn.Softmax(1)
    )
    inputs = {"input": np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype(np.float32)}
    replacement = {"input": np.zeros((2, 4, 4), np.float32)}
    decided = np.array([0, 1, 2, 0, 1])
    layout = divide(inputs, patch=3)
    found = gradients.integrated_gradients(module, inputs, decided, layout, replacement)
    assert found.shape == (5, 4)

    def odds(values: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return log_odds(module(torch.tensor(values)).numpy(), decided)

    change = odds(inputs["input"]) - odds(np.zeros((5, 2, 4, 4), np.float32))
    assert found.sum(axis=1) == pytest.approx(change, abs=0.02)


def test_integrated_gradients_of_a_regression_add_up_to_the_change_of_the_number() -> None:
    pytest.importorskip("captum", reason="captum is an optional extra: pip install 'trimtab[explain]'")
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    inputs = {"input": np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)}
    replacement, decided = {"input": np.zeros(6, np.float32)}, np.array([0, 1, 0, 1])
    found = gradients.integrated_gradients(module, inputs, decided, divide(inputs), replacement, numbers=True)
    with torch.no_grad():
        change = (module(torch.tensor(inputs["input"])) - module(torch.zeros(1, 6))).numpy()
    assert found.sum(axis=1) == pytest.approx(number(change, decided), abs=0.02)


def test_a_picture_has_an_image_and_two_maps_a_row_or_bars_of_a_table() -> None:
    random = np.random.default_rng(0)
    for shape, parts, axes in (((3, 9, 9), 25, 12), ((30,), 30, 4)):
        values = random.normal(size=(6, parts))
        found = compare_attributions(values, values + random.normal(size=values.shape), range(6), [1] * 6, 0.95, "o")
        inputs = {one.row: {"input": random.normal(size=shape)} for one in found.examples}
        drawing = figure(found, inputs, None, ["no", "yes"])
        drawing.draw_without_rendering()
        assert len(drawing.axes) == axes
        assert f"row {found.examples[0].row}: yes" in drawing.axes[0].get_title()
