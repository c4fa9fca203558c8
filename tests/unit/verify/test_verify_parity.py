"""Parity: numbers for FP32, decisions for INT8, probes at batch sizes and edges, on predictors made for it."""

import json
from collections.abc import Callable, Mapping

import numpy as np
import pytest

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
        *("all zeros", "input at its smallest", "input at its largest", "NaN"),
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
    assert "ordinary numbers; the original: NaN" in parity.edges[-1].detail


def test_refusing_a_nan_alike_is_the_same_kind_of_answer(inputs: dict[str, Array]) -> None:
    def refuse(x: Array) -> Array:
        if np.isnan(x).any():
            raise InputError("NaN")
        return x

    assert edge(compare(Linear(before=refuse), Linear(before=refuse), inputs, 1e-4, 0.95), "NaN")


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
    parity = compare(Linear(), Linear(), inputs, None, 0.95)
    assert Parity.from_json(json.loads(json.dumps(parity.to_json()))) == parity
