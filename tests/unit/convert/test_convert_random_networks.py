"""Whatever a network consists of, every runtime answers like eager torch, or refuses it by name.

A few networks here, always the same; many, others each time, with `make random-networks`.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_networks import CLASSES, Plan, build, is_recurrent, plans, rows

from trimtab import runtime
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.errors import ConversionError, UnsupportedError
from trimtab.free_axes import FIXED, Axes, FreeAxis
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.availability import why_unavailable
from trimtab.runtime.eager import Predictor as Eager

# Not eager-cpu, which ships the user's own module and converts nothing.
TARGETS = [target for target in sorted(runtime.TARGETS) if target != "eager-cpu" and not why_unavailable(target)]
MANY = int(os.environ.get("TRIMTAB_RANDOM_NETWORKS", "0"))
ATOL = 1e-4
LENGTH: Axes = {"input": {1: FreeAxis("length", 1, 9)}}
SEQUENCES = plans(families=("sequence", "tokens"))
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def agrees(plan: Plan, target: str, axes: Axes = FIXED) -> str | None:
    """Convert, and compare on rows no converter saw, of several lengths if that is free; the refusal, if refused."""
    example = rows(plan, 4, 0)
    module, spec = deployed(build(plan), Preprocess()), spec_of(example, CLASSES, axes=axes)
    with tempfile.TemporaryDirectory() as draft:
        try:
            convert("random", target, module, example, spec, Path(draft))
        except (ConversionError, UnsupportedError) as error:
            return str(error) if error.where and error.fix else pytest.fail(f"says too little: {error}")
        predictor, eager = runtime.load(target, Path(draft), threads=1), Eager(module, spec, threads=1)
        for size, length in ((1, None), (5, None), *(((2, 1), (3, 4), (1, 9)) if axes else ())):
            fresh = rows(plan, size, size, length)
            want, have = (one.predict(fresh)["probabilities"] for one in (eager, predictor))
            np.testing.assert_allclose(have, want, atol=ATOL, err_msg=f"{target}, batch {size}, length {length}")
    return None


# These take a tenth of the time that the exporter to ONNX takes.
@given(plans())
@settings(max_examples=6, derandomize=True, phases=[Phase.generate], **COMMON)
@pytest.mark.parametrize("target", ["openvino-cpu", "torch-export-cpu", "torchscript-cpu"])
def test_a_random_network_is_answered_alike_or_refused_by_name(target: str, plan: Plan) -> None:
    agrees(plan, target)


@given(plans())
@settings(max_examples=2, derandomize=True, phases=[Phase.generate], **COMMON)
def test_a_random_network_in_onnx_is_answered_alike_or_refused_by_name(plan: Plan) -> None:
    agrees(plan, "onnxruntime-cpu")


@given(SEQUENCES)
@settings(max_examples=4, derandomize=True, phases=[Phase.generate], **COMMON)
@pytest.mark.parametrize("target", ["openvino-cpu", "torch-export-cpu", "torchscript-cpu"])
def test_a_random_network_over_any_length_is_answered_alike_or_refused_by_name(target: str, plan: Plan) -> None:
    said = agrees(plan, target, LENGTH)
    if said is not None:
        assert target == "torch-export-cpu", said
        assert is_recurrent(plan), said
        assert "step by step" in said


@given(SEQUENCES)
@settings(max_examples=2, derandomize=True, phases=[Phase.generate], **COMMON)
def test_a_random_network_over_any_length_in_onnx_is_answered_alike(plan: Plan) -> None:
    assert agrees(plan, "onnxruntime-cpu", LENGTH) is None


@pytest.mark.skipif(not MANY, reason="half an hour: `make random-networks`, or TRIMTAB_RANDOM_NETWORKS=<how many>")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", TARGETS)
def test_many_random_networks_are_answered_alike_or_refused_by_name(target: str) -> None:
    refused: dict[Plan, str] = {}
    tried: set[Plan] = set()

    @given(plans())
    @settings(max_examples=MANY, **COMMON)
    def each(plan: Plan) -> None:
        said = agrees(plan, target)
        if target == "executorch-cpu" and is_recurrent(plan):
            return  # may be refused: ExecuTorch plans the first state for one batch size (docs/targets.md)
        tried.add(plan)
        if said:
            refused[plan] = said

    each()
    _few(refused, tried)


@pytest.mark.skipif(not MANY, reason="half an hour: `make random-networks`, or TRIMTAB_RANDOM_NETWORKS=<how many>")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", [target for target in TARGETS if runtime.TARGETS[target].free_axes])
def test_many_random_networks_over_any_length_are_answered_alike_or_refused_by_name(target: str) -> None:
    refused: dict[Plan, str] = {}
    tried: set[Plan] = set()

    @given(SEQUENCES)
    @settings(max_examples=MANY, **COMMON)
    def each(plan: Plan) -> None:
        if target == "torch-export-cpu" and is_recurrent(plan):
            return  # refused by name, as it should be: seen above
        tried.add(plan)
        if said := agrees(plan, target, LENGTH):
            refused[plan] = said

    each()
    _few(refused, tried)


def _few(refused: dict[Plan, str], tried: set[Plan]) -> None:
    # Everything drawn here is ordinary: a target that refuses a tenth of it is broken, however politely.
    assert len(refused) <= 0.1 * len(tried), "\n\n".join(f"{plan}\n{said}" for plan, said in refused.items())
