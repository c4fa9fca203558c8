"""The search: the plan is complete and carries everything, the front and the choice do not depend on order."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.candidate import Candidate, InputsDigest, Step
from trimtab.compress.make import GRAPH_STEPS, MODULE_STEPS
from trimtab.compress.search import (
    ON_THE_GRAPH,
    Point,
    choose,
    front,
    how_near,
    plan,
    precision,
    replan,
    set_aside,
    unsearched,
)
from trimtab.compress.search.for_int8 import carrying, coarse, finer_twins
from trimtab.compress.search.grid import finished, with_last_steps
from trimtab.recipe.compressing import Clip, Cluster, Coarsen, Half, Qat, Shorten, Sparsify, Student
from trimtab.recipe.schema import Budget, Compress, Distil, Prune, Quantize

TARGETS = ["onnxruntime-cpu"]


def labels(compress: Compress) -> list[str]:
    inputs = InputsDigest("d", "w", "c", "v")
    return [Candidate((Step("train"), *steps), inputs).label for steps in plan(compress, 7, TARGETS)]


def test_three_criteria_at_two_ratios_plan_fourteen_candidates() -> None:
    found = labels(Compress(shorten=None))
    assert len(found) == len(set(found)) == 14
    assert found[:4] == ["original", "int8", "prune-l1-0.25 distil", "prune-l1-0.25 distil int8"]
    assert "prune-linf-0.5 distil int8" in found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"prune": None}, ["original", "int8"]),
        ({"quantize": None, "prune": Prune(norms=["l2"], ratios=[0.5])}, ["original", "prune-l2-0.5 distil"]),
        ({"distil": None, "quantize": None, "prune": Prune(norms=["l1"], ratios=[0.3])}, ["original", "prune-l1-0.3"]),
        ({"prune": None, "distil": None, "quantize": None}, ["original"]),
    ],
)
def test_methods_can_be_switched_off(changes: dict[str, object], expected: list[str]) -> None:
    assert labels(Compress(**{"shorten": None, **changes})) == expected  # type: ignore[arg-type]


def test_steps_carry_every_parameter_and_are_json() -> None:
    given = Distil(temperature=2.0, alpha=0.5, epochs=3, lr=0.1, batch_size=8, hints=0.5, schedule="one_cycle")
    compress = Compress(
        shorten=None,
        prune=Prune(norms=["l1"], ratios=[0.5], round_to=4),
        distil=given,
        quantize=Quantize(calibration_rows=50, per_channel=False),
    )
    pruned, distilled, quantized = plan(compress, 7, TARGETS)[-1]
    assert pruned == Step("prune", {"norm": "l1", "ratio": 0.5, "round_to": 4, "label": "prune-l1-0.5"})
    assert distilled.seed == 7
    assert distilled.parameters["label"] == "distil"
    assert Distil.model_validate({k: v for k, v in distilled.parameters.items() if k != "label"}) == given
    assert quantized.parameters["per_channel"] is False
    json.dumps([dict(step.parameters) for step in (pruned, distilled, quantized)])


def test_shapes_are_combined_and_every_method_on_the_graph_is_an_ending_of_its_own() -> None:
    compress = Compress(
        shorten=Shorten(blocks=[1, 2]),
        prune=Prune(norms=["taylor", "l1"], ratios=[0.5]),
        distil=None,
        quantize=Quantize(mode="dynamic"),
        cluster=Cluster(bits=3),
        half=Half(),
    )

    plans = plan(compress, 7, TARGETS)

    assert len(plans) == 3 * 3 * 4  # none, 1, 2 blocks; unpruned and two criteria; FP32 and three endings
    assert len({json.dumps([asdict(step) for step in steps]) for steps in plans}) == len(plans)
    longest = [step.parameters["label"] for step in plans[-1]]
    assert longest == ["shorten-2", "prune-l1-0.5", "fp16"]
    assert {precision(steps) for steps in plans} == {"fp32", "int8-dynamic", "clustered", "fp16"}
    seeds = {step.parameters["norm"]: step.seed for steps in plans for step in steps if step.method == "prune"}
    assert seeds == {"taylor": 7, "l1": None}  # a seed where it decides something, and only there


def test_the_plan_knows_the_methods_that_make_them_and_no_others() -> None:
    assert GRAPH_STEPS.keys() == ON_THE_GRAPH
    assert {"prune", "shorten", "sparsify", "clip", "coarsen"} == MODULE_STEPS.keys()


def test_weights_are_clipped_before_int8_and_packed_where_they_are_sparse() -> None:
    found = labels(Compress(shorten=None, prune=None, clip=Clip(), sparsify=Sparsify(sparsities=[0.5])))
    assert found == [
        *("original", "clip int8"),
        *("sparsify-0.5 distil", "sparsify-0.5 distil clip int8", "sparsify-0.5 distil packed"),
    ]


def test_int8_is_made_once_more_with_coarser_weights_where_a_target_ships_them_compressed() -> None:
    compress = Compress(shorten=None, prune=None, clip=Clip(), coarsen=Coarsen())
    both = ["onnxruntime-cpu", "openvino-cpu"]
    named = [" ".join(step.parameters["label"] for step in steps) for steps in plan(compress, 7, both)]
    whole = ["", "clip int8", "clip int8-nncf"]
    assert named == [*whole, "clip coarsen-5 int8", "clip coarsen-5 int8-nncf"]
    assert [len(steps) for steps in plan(compress, 7, ["onnxruntime-cpu"])] == [0, 2]
    unwanted = {("int8", "openvino-cpu")}
    spared = [steps[-1].method for steps in with_last_steps(compress, (), both, 7, unwanted) if coarse(steps)]
    assert spared == ["quantize_openvino"]
    mixed = compress.model_copy(update={"quantize": Quantize(max_drop=0.01), "quantize_openvino": None})
    assert [steps[-1].parameters["max_drop"] for steps in plan(mixed, 7, both)[1:]] == [0.01, None]
    trained = compress.model_copy(update={"qat": Qat(), "quantize_openvino": None})
    methods = [[step.method for step in steps] for steps in plan(trained, 7, both)]
    assert methods[2:] == [["clip", "qat", "quantize"], ["clip", "coarsen", "quantize"]]


def test_coarser_weights_go_where_they_are_smaller_and_are_chosen_where_finer_ones_are_too_large() -> None:
    coarsen, int8 = Step("coarsen", {"bits": 5}), Step("quantize", {})
    both, inputs = ["onnxruntime-cpu", "openvino-cpu"], InputsDigest("d", "w", "c", "v")
    assert carrying((int8,), "int8", both) == both
    assert carrying((coarsen, int8), "int8", both) == ["openvino-cpu"]
    fine, rough = (Candidate((Step("train"), *steps), inputs) for steps in ((int8,), (coarsen, int8)))
    finer = finer_twins({one.id: one for one in (fine, rough)})
    assert finer == {rough.id: fine.id}
    assert finer_twins({rough.id: rough}) == {}

    points = [
        replace(point(fine.id, accuracy=0.9, speedup=4.0, size=5.0), target="openvino-cpu"),
        replace(point(rough.id, accuracy=0.9, speedup=4.1, size=7.0), target="openvino-cpu"),
    ]
    assert [one.candidate for one in choose(points, Budget(max_drop=0.5), 2, finer)] == [fine.id]
    assert [one.candidate for one in choose(points, Budget(max_drop=0.5, min_size_ratio=6), 2, finer)] == [rough.id]


def test_students_have_plans_of_their_own() -> None:
    found = labels(Compress(shorten=None, prune=None, quantize=None, student=Student(kwargs=[{"width": 8}])))
    assert len(found) == 2
    assert found[1].endswith("distil")


def test_beside_the_shapes_of_a_search_the_original_is_made_sparse_and_students_are_taught() -> None:
    compress = Compress(sparsify=Sparsify(sparsities=[0.5]), student=Student(kwargs=[{"width": 8}]))
    methods = [[step.method for step in start] for start in unsearched(compress, 7)]
    assert methods == [[], ["sparsify", "distil"], ["student", "distil"]]


def test_after_a_search_each_start_comes_once_and_a_last_step_without_a_target_left_is_not_made() -> None:
    compress, both = Compress(shorten=None, prune=None), ["onnxruntime-cpu", "openvino-cpu"]
    shape = (Step("prune", {"label": "p"}),)

    def found(without: set[tuple[str, str]]) -> list[str]:
        plans = finished(compress, 7, both, [shape, ()], without)
        return [" ".join(str(step.parameters["label"]) for step in steps) for steps in plans]

    assert found(set()) == ["", "int8", "int8-nncf", "p", "p int8", "p int8-nncf"]
    assert found({("int8", "openvino-cpu")}) == found(set())  # ONNX Runtime is left for it
    assert found({("int8-nncf", "openvino-cpu")}) == ["", "int8", "p", "p int8"]


def test_nncf_is_asked_for_where_openvino_is_a_target() -> None:
    def methods(targets: list[str]) -> set[str]:
        return {step.method for steps in plan(Compress(prune=None), 7, targets) for step in steps}

    assert "quantize_openvino" in methods(["onnxruntime-cpu", "openvino-cpu"])
    assert "quantize_openvino" not in methods(["onnxruntime-cpu"])


def test_a_gain_within_the_noise_is_called_none_and_beats_nobody() -> None:
    quick = replace(point("quick", 0.90, speedup=2.05), noise=0.05, gain=1.03)
    better = replace(point("better", 0.91, speedup=2.0), noise=0.05, gain=1.5)
    assert quick.gained == "no gain"
    assert better.gained == "1.50x"
    assert front([quick, better]) == [better]
    assert len(front([replace(quick, noise=0.01), replace(better, noise=0.01)])) == 2


def point(name: str, accuracy: float = 0.9, speedup: float = 2.0, size: float = 2.0, p99: float = 1.0) -> Point:
    return Point(name, "onnxruntime-cpu", name, accuracy, 0.95 - accuracy, {1: speedup, 32: 1.0}, size, p99)


POINTS = st.lists(
    st.builds(
        point,
        st.text("abc", min_size=1, max_size=3),
        st.sampled_from([0.8, 0.9, 0.95]),
        st.sampled_from([0.5, 1.0, 2.0]),
        st.sampled_from([1.0, 4.0]),
    ),
    max_size=12,
    unique_by=lambda p: p.candidate,
)


@given(POINTS)
def test_every_point_off_the_front_is_beaten_by_one_on_it(points: list[Point]) -> None:
    def beats(one: Point, other: Point) -> bool:
        pairs = [
            (one.accuracy, other.accuracy),
            (one.speedup[1], other.speedup[1]),
            (one.size_ratio, other.size_ratio),
        ]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    found = front(points)
    assert not any(beats(one, other) for one in points for other in found)
    assert all(any(beats(one, other) for one in found) for other in points if other not in found)


@given(POINTS, st.randoms(use_true_random=False))
def test_the_choice_is_within_budget_fastest_first_and_independent_of_order(
    points: list[Point], shuffle: random.Random
) -> None:
    budget = Budget(max_drop=0.05, min_speedup=1.0)
    chosen = choose(points, budget, finalists=3)
    shuffled = list(points)
    shuffle.shuffle(shuffled)
    assert choose(shuffled, budget, finalists=3) == chosen
    meets = [p for p in points if p.drop <= 0.05 + 1e-9 and p.speedup[1] >= 1.0]
    assert len(chosen) == min(3, len(meets))
    assert [p.speedup[1] for p in chosen] == sorted((p.speedup[1] for p in meets), reverse=True)[:3]


def test_a_drop_of_the_margin_exactly_is_within_budget() -> None:
    edge = Point("a", "t", "a", 0.9, 0.93 - 0.9, {1: 2.0}, 2.0, 1.0)
    assert edge.drop > 0.03
    assert choose([edge], Budget(max_drop=0.03), 1) == [edge]


def test_who_breaks_a_slice_is_not_chosen_where_another_is_within_the_budget() -> None:
    budget = Budget(max_drop=0.05, max_slice_drop=0.1)
    breaking = replace(point("fast", 0.94, speedup=4.0), slice_drop=0.2, slice_name="night")
    keeping = replace(point("slow", 0.94, speedup=2.0), slice_drop=0.1, slice_name="night")
    outside = replace(point("bad", 0.5), slice_drop=0.0)

    assert choose([breaking, keeping, outside], budget, 3) == [keeping]
    assert set_aside([breaking, keeping], budget) == [
        'fast on onnxruntime-cpu: "night" drops 0.2000 > max_slice_drop 0.1'
    ]
    assert choose([breaking, outside], budget, 3) == [breaking]  # it is for the gate to say
    assert set_aside([breaking, outside], budget) == []
    assert choose([breaking, keeping], Budget(max_drop=0.05), 3) == [breaking, keeping]


def test_how_near_names_every_miss_with_figures_nearest_first() -> None:
    budget = Budget(max_drop=0.03, min_speedup=1.5, min_size_ratio=3, max_p99_ms=0.5)
    lines = how_near([point("bad", accuracy=0.8, speedup=1.2), point("good", 0.94, 2.0, 4.0, 0.4)], budget)
    assert lines[0] == "good on onnxruntime-cpu: meets the budget"
    for figure in (
        "drop 0.1500 > max_drop 0.03",
        "1.20 < min_speedup 1.5",
        "2.00 < min_size_ratio 3",
        "1.000 ms > max_p99_ms 0.5",
    ):
        assert figure in lines[1]


def test_a_point_survives_json() -> None:
    one = point("a")
    assert Point.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_retrain_makes_the_finalists_again_with_what_each_is_made_from_and_nothing_else():
    prune, distil, int8 = Step("prune", {"norm": "l1"}), Step("distil", {}, 0), Step("quantize", {})
    plans = replan([[prune, distil, int8], [prune, distil], []])
    assert plans == [(), (prune, distil), (prune, distil, int8)]


def test_a_retrain_makes_coarser_weights_beside_finer_ones_and_no_candidate_of_what_is_for_int8_alone():
    clip, coarsen, int8 = Step("clip", {"bits": 8}), Step("coarsen", {"bits": 5}), Step("quantize", {})
    distil = Step("distil", {}, 0)
    plans = replan([[distil, clip, coarsen, int8], [coarsen, int8]])
    assert plans == [(), (distil,), (distil, clip, int8), (distil, clip, coarsen, int8), (int8,), (coarsen, int8)]
