"""Compressing a regression: what distillation learns, what shortening looks at, answers off the grid of INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch.nn import functional as F

from trimtab.compress.distil import regression_loss
from trimtab.compress.divergence import divergence_of_numbers
from trimtab.compress.qdq_graph import free_output


@given(st.floats(0, 1), st.integers(0, 10**6))
def test_distillation_in_closed_form_learns_the_mean_of_teacher_and_label(alpha: float, seed: int) -> None:
    student, teacher, labels = torch.randn(3, 8, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    target = alpha * teacher + (1 - alpha) * labels
    constant = alpha * (1 - alpha) * F.mse_loss(teacher, labels)
    assert regression_loss(student, teacher, labels, alpha) == pytest.approx(
        float(F.mse_loss(student, target) + constant), rel=1e-9
    )


def test_the_divergence_of_numbers_is_the_example_s_and_does_not_depend_on_their_unit() -> None:
    before, after = torch.tensor([[0.0], [2.0]]).double(), torch.tensor([[1.0], [2.0]]).double()
    assert divergence_of_numbers(before, after) == pytest.approx(0.25)
    assert divergence_of_numbers(1000 * before, 1000 * after) == pytest.approx(0.25)


def graph(*ending: str) -> onnx.ModelProto:
    """x → Relu → Q → DQ → (each of the ending → Q → DQ) → prediction, as ONNX Runtime's quantizer leaves it."""
    nodes, name = [helper.make_node("Relu", ["x"], ["r"])], "r"
    for place, kind in enumerate(["", *ending]):
        if kind:
            axes = {"Squeeze": ["axes"], "Mul": ["eighty"]}.get(kind, [])
            nodes.append(helper.make_node(kind, [name, *axes], [f"s{place}"]))
            name = f"s{place}"
        nodes.append(helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"q{place}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{place}", "scale", "zero"], [f"d{place}"]))
        name = f"d{place}"
    nodes[-1].output[0] = "prediction"
    shape = [None] if "Squeeze" in ending else [None, 1]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
            [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, shape)],
            [
                helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5]),
                helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
                helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
                helper.make_tensor("eighty", TensorProto.FLOAT, [], [80.0]),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


@pytest.mark.parametrize("ending", [(), ("Identity",), ("Mul",), ("Mul", "Squeeze")])
def test_the_answer_of_a_quantized_regression_is_not_rounded_to_a_grid(ending: tuple[str, ...], tmp_path: Path) -> None:
    from trimtab.runtime.onnxruntime_cpu import open_session

    model = graph(*ending)
    free_output(model)
    onnx.checker.check_model(model)
    assert not {node.op_type for node in model.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    onnx.save(model, tmp_path / "m.onnx")
    (answer,) = open_session(tmp_path / "m.onnx", 1).run(None, {"x": np.array([[0.3], [7.7]], np.float32)})
    scale = 80 if "Mul" in ending else 1
    assert np.ravel(answer).tolist() == pytest.approx([0.3 * scale, 7.7 * scale])
