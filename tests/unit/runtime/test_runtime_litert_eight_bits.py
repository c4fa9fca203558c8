"""A LiteRT file that takes and gives 8 bits is asked and answered in floats. Left out where LiteRT is not installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs pip install 'trimtab[litert]'")

from trimtab.runtime.litert_cpu import Predictor

SPEC = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3]}],
    "outputs": [{"name": "prediction", "dtype": "float32", "shape": ["batch", 3]}],
}


class EightBits:
    """An interpreter of a file that answers the integers it is given."""

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []

    def get_signature_list(self) -> dict[str, Any]:
        return {"batch_1": {}, "batch_8": {}}

    def get_signature_runner(self, name: str) -> EightBits:
        return self

    def get_input_details(self) -> dict[str, Any]:
        return {"args_0": {"dtype": np.int8, "quantization": (0.5, -28)}}

    def get_output_details(self) -> dict[str, Any]:
        return {"output_0": {"dtype": np.int8, "quantization": (0.25, -28)}}

    def __call__(self, args_0: np.ndarray) -> dict[str, np.ndarray]:
        self.asked.append(args_0)
        return {"output_0": args_0}


def test_values_are_rounded_to_the_scale_of_the_file_and_its_answers_are_floats_again() -> None:
    interpreter = EightBits()
    answer = Predictor(interpreter, SPEC).predict({"input": np.float32([[0, 1.2, -3.8]])})["prediction"]
    assert interpreter.asked[0].dtype == np.int8
    np.testing.assert_array_equal(interpreter.asked[0], [[-28, -26, -36]])
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, np.float32([[0, 0.5, -2]]))


def test_values_beyond_the_range_are_its_ends_and_nan_is_zero() -> None:
    interpreter = EightBits()
    Predictor(interpreter, SPEC).predict({"input": np.float32([[1e30, -np.inf, np.nan]])})
    np.testing.assert_array_equal(interpreter.asked[0], [[127, -128, -28]])


def test_rows_of_several_calls_are_joined_before_they_are_floats() -> None:
    rows = np.arange(27, dtype=np.float32).reshape(9, 3)
    answer = Predictor(EightBits(), SPEC).predict({"input": rows})["prediction"]
    np.testing.assert_array_equal(answer, rows / 2)
