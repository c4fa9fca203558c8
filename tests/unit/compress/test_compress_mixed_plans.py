"""Mixed precision is offered where INT8 breaks the budget and FP32 does not, with what is left of the budget."""

from __future__ import annotations

import pytest

from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.compress.search.mixed import mixed_plans

INPUTS = InputsDigest("d", "w", "c", "v")
INT8 = Step("quantize", {"mode": "static", "max_drop": None, "label": "int8"})


def candidate(*steps: Step) -> Candidate:
    return Candidate((Step("train"), *steps), INPUTS)


SHAPE = (Step("prune", {"ratios": {"a": 0.5}}), Step("distil", {}, 0))
FLOAT, QUANTIZED = candidate(*SHAPE), candidate(*SHAPE, INT8)


def offered(float_accuracy: float, int8_accuracy: float, made: Candidate = QUANTIZED) -> list[tuple[Step, ...]]:
    accuracy = {FLOAT.id: float_accuracy, made.id: int8_accuracy}
    return mixed_plans([FLOAT, made], accuracy, reference=0.9, max_drop=0.02)


def test_int8_beyond_the_budget_of_a_shape_within_it_may_lose_what_is_left() -> None:
    (steps,) = offered(0.893, 0.86)
    assert steps[:-1] == SHAPE
    assert steps[-1].parameters == {"mode": "static", "max_drop": pytest.approx(0.013), "label": "int8-mixed"}


@pytest.mark.parametrize(("float_accuracy", "int8_accuracy"), [(0.893, 0.881), (0.87, 0.86), (0.88, 0.87)])
def test_within_the_budget_or_beyond_it_in_float_already_nothing_is_offered(
    float_accuracy: float, int8_accuracy: float
) -> None:
    assert offered(float_accuracy, int8_accuracy) == []


def test_what_is_clipped_before_int8_is_compared_with_what_was_not() -> None:
    clipped = candidate(*SHAPE, Step("clip", {}), INT8)
    (steps,) = offered(0.893, 0.86, clipped)
    assert [step.method for step in steps] == ["prune", "distil", "clip", "quantize"]


def test_coarser_weights_are_for_a_small_file_and_get_no_layers_in_float() -> None:
    coarse = candidate(*SHAPE, Step("coarsen", {}), INT8)
    assert offered(0.893, 0.86, coarse) == []


@pytest.mark.parametrize(
    "last",
    [
        Step("quantize", {"mode": "dynamic", "max_drop": None}),
        Step("quantize", {"mode": "static", "max_drop": 0.01}),
        Step("quantize_openvino", {}),
    ],
)
def test_only_static_int8_that_keeps_no_layer_in_float_yet_is_tried_again(last: Step) -> None:
    assert offered(0.893, 0.5, candidate(*SHAPE, last)) == []
