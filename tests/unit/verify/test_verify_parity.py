"""Parity: numbers for FP32, decisions for INT8, probes at batch sizes and edges, on predictors made for it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from trimtab.convert.difference import FirstDifference
from trimtab.errors import ConversionError, DataError
from trimtab.runtime.door import InputError
from trimtab.verify.parity import Parity, compare

Array = np.ndarray
ROWS = 40


class Linear:
    """Softmax of a fixed linear map, with a twist applied to its inputs and its answer."""

    def __init__(
        self, answer: Callable[[Array], Array] = lambda p: p, before: Callable[[Array], Array] = lambda x: x
    ) -> None:
        self.spec = {"inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 4]}], "outputs": []}
        self.weights = np.random.default_rng(0).normal(size=(4, 3))
        self.answer, self.before = answer, before

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        logits = self.before(inputs["input"]) @ self.weights
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return {"probabilities": self.answer((p / p.sum(axis=1, keepdims=True)).astype(np.float32))}


@pytest.fixture
def inputs() -> dict[str, Array]:
    return {"input": np.random.default_rng(1).normal(size=(ROWS, 4)).astype(np.float32)}


def edge(parity: Parity, name: str) -> bool:
    return next(one.ok for one in parity.edges if name in one.name)


def test_a_faithful_conversion_has_parity_at_every_edge(inputs: dict[str, Array]) -> None:
    parity = compare(Linear(), Linear(), inputs, 1e-4, 0.95)
    assert parity.max_abs == 0
    assert parity.edges_ok
    assert [one.name for one in parity.edges] == [
        *(f"batch {size}" for size in (1, 3, 17, ROWS)),
        *("all zeros", "input at its smallest", "input at its largest"),
        *("input constant at the smallest", "input constant at the largest"),
        *("NaN in input", "+inf in input", "-inf in input"),
    ]
    assert parity.disagreement.value == 0
    assert parity.disagreement.high > 0


def test_the_largest_difference_and_its_row_are_found(inputs: dict[str, Array]) -> None:
    def wrong_in_row_5(p: Array) -> Array:
        p = p.copy()
        if len(p) > 5:
            p[5] += [0.02, -0.02, 0]
        return p

    parity = compare(Linear(), Linear(wrong_in_row_5), inputs, 1e-4, 0.95)
    assert parity.max_abs == pytest.approx(0.02, abs=1e-6)
    assert parity.worst[0][0] == 5


def test_decisions_that_differ_are_counted_with_an_interval(inputs: dict[str, Array]) -> None:
    parity = compare(Linear(), Linear(lambda p: p[:, ::-1]), inputs, None, 0.95)
    expected = Linear().predict(inputs)["probabilities"].argmax(1)
    assert parity.disagreement.value == pytest.approx(np.mean(expected != 2 - expected))
    assert parity.disagreement.low <= parity.disagreement.value <= parity.disagreement.high


def test_an_answer_that_depends_on_the_batch_is_a_wrong_edge(inputs: dict[str, Array]) -> None:
    parity = compare(Linear(), Linear(before=lambda x: x - x.mean(axis=0)), inputs, 1e-4, 0.95)
    assert not edge(parity, "batch 1")
    assert not parity.edges_ok


def test_where_the_batch_may_matter_by_design_it_is_reported_and_does_not_decide(inputs: dict[str, Array]) -> None:
    parity = compare(Linear(), Linear(before=lambda x: x - x.mean(axis=0)), inputs, None, 0.95, batch_invariant=False)

    bad = [edge for edge in parity.edges if edge.name.startswith("batch") and not edge.ok]
    assert bad
    assert not any(edge.decides for edge in bad)


def test_a_graph_frozen_at_a_batch_size_is_a_wrong_edge_and_its_message_is_kept(inputs: dict[str, Array]) -> None:
    def frozen(x: Array) -> Array:
        if len(x) == 3:
            raise RuntimeError("Got: 3 Expected: 1")
        return x

    parity = compare(Linear(), Linear(before=frozen), inputs, 1e-4, 0.95)
    bad = [one for one in parity.edges if not one.ok]
    assert [one.name for one in bad] == ["batch 3"]
    assert "Got: 3 Expected: 1" in bad[0].detail


def test_a_clipped_range_shows_at_the_extremes_only(inputs: dict[str, Array]) -> None:
    top = float(np.sort(inputs["input"].max(axis=0))[-2])
    inside = {"input": inputs["input"][(inputs["input"] <= top).all(axis=1)]}
    clipped = Linear(before=lambda x: x if (x == 0).all() or len(x) > 1 else np.clip(x, -0.5, 0.5))
    parity = compare(Linear(), clipped, inside, 1e-4, 0.95)
    assert not edge(parity, "largest")
    assert not edge(parity, "smallest")
    assert edge(parity, "zeros")


def test_hiding_a_nan_is_reported_but_does_not_decide(inputs: dict[str, Array]) -> None:
    parity = compare(Linear(), Linear(before=np.nan_to_num), inputs, 1e-4, 0.95)
    assert not edge(parity, "NaN")
    assert parity.edges_ok
    detail = next(one.detail for one in parity.edges if one.name == "NaN in input")
    assert "ordinary numbers; the original: NaN" in detail


def test_refusing_a_nan_alike_is_the_same_kind_of_answer(inputs: dict[str, Array]) -> None:
    def refuse(x: Array) -> Array:
        if np.isnan(x).any():
            raise InputError("NaN")
        return x

    assert edge(compare(Linear(before=refuse), Linear(before=refuse), inputs, 1e-4, 0.95), "NaN")


@pytest.mark.parametrize("sign", [1, -1])
def test_an_infinity_that_is_hidden_is_told_from_a_nan_that_is(inputs: dict[str, Array], sign: int) -> None:
    def hide(x: Array) -> Array:
        return np.where(np.isinf(x) & (np.sign(x) == sign), np.float32(0), x)

    parity = compare(Linear(), Linear(before=hide), inputs, 1e-4, 0.95)
    wrong = [one.name for one in parity.edges if not one.ok]
    assert wrong == ["+inf in input" if sign > 0 else "-inf in input"]
    assert parity.edges_ok


class Lengths(Linear):
    """Rows of any length: the mean over it, then the linear map; one that was frozen takes the first six steps only."""

    def __init__(self, steps: int | None, refuses: int | None = None) -> None:
        super().__init__()
        self.spec = {"inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", "steps", 4]}], "outputs": []}
        self.steps, self.refuses = steps, refuses

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if inputs["input"].shape[1] == self.refuses:
            raise RuntimeError("too short for the kernel")
        return super().predict({"input": inputs["input"][:, : self.steps].mean(axis=1)})


def test_a_graph_frozen_at_the_length_of_its_example_is_wrong_at_the_longest_of_that_axis() -> None:
    rows = {"input": np.random.default_rng(0).normal(size=(ROWS, 6, 4)).astype(np.float32)}
    rows["input"][:, 0] *= 9  # or repeating a row twice would leave its mean as it was
    parity = compare(Lengths(None), Lengths(6), rows, 1e-4, 0.95)
    assert [one.name for one in parity.edges if "axis" in one.name] == [
        "axis 'steps' at its shortest",
        "axis 'steps' at its longest",
    ]
    assert edge(parity, "shortest")
    parity = compare(Lengths(None), Lengths(3), rows, None, 0.95)
    assert edge(parity, "shortest")
    refused = compare(Lengths(None, refuses=1), Lengths(None), rows, 1e-4, 0.95)
    shortest = next(one for one in refused.edges if "shortest" in one.name)
    assert not shortest.decides
    assert "the original refuses it: too short for the kernel" in shortest.detail


@pytest.mark.parametrize(("atol", "frozen"), [(1e-4, True), (None, False)])
def test_an_axis_with_bounds_is_asked_at_its_ends_and_at_an_odd_size(atol: float | None, frozen: bool) -> None:
    rows = {"input": np.random.default_rng(0).normal(size=(ROWS, 6, 4)).astype(np.float32)}
    rows["input"][:, 0] *= 9
    original, candidate = Lengths(None), Lengths(6)
    for one in (original, candidate):
        one.spec["axes"] = {"steps": [2, 15]}
    parity = compare(original, candidate, rows, atol, 0.95)
    asked = {one.name: one.ok for one in parity.edges if "axis" in one.name}
    assert asked == {
        "axis 'steps' at 2 (shortest)": True,
        "axis 'steps' at 7 (odd)": not frozen,
        "axis 'steps' at 15 (longest)": not frozen,
    }
    assert parity.edges_ok is not frozen


def test_what_the_bounds_allow_the_original_must_answer_too() -> None:
    rows = {"input": np.random.default_rng(0).normal(size=(ROWS, 6, 4)).astype(np.float32)}
    original = Lengths(None, refuses=2)
    original.spec["axes"] = {"steps": [2, 15]}
    parity = compare(original, Lengths(None), rows, 1e-4, 0.95)
    (wrong,) = [one for one in parity.edges if not one.ok and "axis" in one.name]
    assert "at 2 (shortest)" in wrong.name
    assert "too short for the kernel" in wrong.detail


def test_the_worst_rows_are_explained_only_where_something_is_wrong(inputs: dict[str, Array]) -> None:
    asked: list[Array] = []

    def explain(rows: Mapping[str, Array], output: int) -> str:
        asked.append(rows["input"])
        return "at the second layer"

    fine = compare(Linear(), Linear(), inputs, 1e-4, 0.95, explain=explain)
    assert (fine.where, asked) == (None, [])
    wrong = compare(Linear(), Linear(lambda p: p[:, ::-1]), inputs, 1e-4, 0.95, explain=explain)
    assert wrong.where == "at the second layer"
    np.testing.assert_array_equal(asked[0], inputs["input"][[row for row, *_ in wrong.worst]])
    allowed = compare(Linear(), Linear(lambda p: p[:, ::-1]), inputs, None, 0.95, explain=explain, max_disagreement=1)
    assert allowed.where is None


def test_a_probe_that_fails_is_explained_with_what_it_asked(inputs: dict[str, Array]) -> None:
    def at_zero(x: Array) -> Array:
        return x + (x == 0).all()

    seen: list[Mapping[str, Array]] = []
    parity = compare(
        Linear(), Linear(before=at_zero), inputs, 1e-4, 0.95, explain=lambda rows, _: str(seen.append(rows))
    )
    assert not edge(parity, "all zeros")
    assert not seen[0]["input"].any()


def test_fewer_rows_than_a_probe_wants_are_probed_as_they_are(inputs: dict[str, Array]) -> None:
    parity = compare(Linear(), Linear(), {"input": inputs["input"][:2]}, 1e-4, 0.95)
    assert [one.name for one in parity.edges if one.name.startswith("batch")] == ["batch 1", "batch 2"]


def test_answers_of_another_shape_or_not_finite_are_a_failed_conversion(inputs: dict[str, Array]) -> None:
    with pytest.raises(ConversionError, match="answers"):
        compare(Linear(), Linear(lambda p: p[:, :2]), inputs, 1e-4, 0.95)
    with pytest.raises(ConversionError, match="row 0 is not finite"):
        compare(Linear(), Linear(lambda p: p * np.nan), inputs, 1e-4, 0.95)


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        compare(Linear(), Linear(), {"input": np.zeros((0, 4), np.float32)}, 1e-4, 0.95)


def test_parity_survives_json(inputs: dict[str, Array]) -> None:
    first = FirstDifference("model.0 (Conv2d)", "Conv 'c'", ("input 'x'",), (), 0.5, (0, 1), 1.0, None, "2 of 3")
    for where in (None, "layers cannot be compared", first):
        parity = replace(compare(Linear(), Linear(), inputs, None, 0.95), where=where)
        assert Parity.from_json(json.loads(json.dumps(parity.to_json()))) == parity
