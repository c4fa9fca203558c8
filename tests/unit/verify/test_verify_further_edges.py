"""Every output is compared at the edges: one that is wrong in a single place there is named, and by what."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from trimtab.verify.edges import Edge
from trimtab.verify.parity import Parity, compare

Array = np.ndarray
ROWS = {"input": np.random.default_rng(1).normal(size=(40, 6, 4)).astype(np.float32)}
SPEC = {
    "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", "steps", 4]}],
    "outputs": [
        {"name": "probabilities", "dtype": "float32", "shape": ["batch", 4]},
        {"name": "embedding", "dtype": "float32", "shape": ["batch", 4]},
        {"name": "steps", "dtype": "float32", "shape": ["batch", "steps"]},
    ],
    "axes": {"steps": [2, 15]},
}
Change = Callable[[Array, Array], Array]


class Model:
    """Probabilities, an embedding a row and a score a step; `changes` are made to an output, given the rows."""

    spec = SPEC

    def __init__(self, **changes: Change) -> None:
        self.changes = changes

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = inputs["input"]
        embedding = rows.mean(axis=1)
        raised = np.exp(embedding - embedding.max(axis=1, keepdims=True))
        answers = {
            "probabilities": raised / raised.sum(axis=1, keepdims=True),
            "embedding": 100 * embedding,
            "steps": rows.sum(axis=2),
        }
        return {name: self.changes.get(name, lambda one, _: one)(one, rows) for name, one in answers.items()}


def only(when: Callable[[Array], Any], change: Callable[[Array], Array]) -> Change:
    return lambda answer, rows: change(answer) if when(rows) else answer


def wrong(parity: Parity) -> dict[str, Edge]:
    return {edge.name: edge for edge in parity.edges if not edge.ok}


EDGES: dict[str, tuple[Callable[[Array], Any], str]] = {
    "batch": (lambda rows: len(rows) == 3, "batch 3"),
    "length": (lambda rows: rows.shape[1] == 15, "axis 'steps' at 15 (longest)"),
    "zeros": (lambda rows: not rows.any(), "all zeros"),
    "extreme": (lambda rows: rows.shape[0] == 1 and (rows == ROWS["input"].max(axis=0)).all(), "input at its largest"),
}
CHANGES: dict[str, tuple[Callable[[Array], Array], float | None, str]] = {
    "other figures": (lambda one: one + 3, 1e-4, r"differs by \d\.\de[+-]0\d of its largest value"),
    "another shape": (lambda one: one[:, :1], None, r"has shape \(\d+, 1\), not \(\d+, \d+\)"),
    "infinity": (lambda one: one * 0 + np.inf, None, "is not finite"),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("output", "place"), [("embedding", 1), ("steps", 2)])
def test_a_further_output_that_is_wrong_at_one_edge_is_named(edge: str, change: str, output: str, place: int) -> None:
    (when, name), (changed, atol, words) = EDGES[edge], CHANGES[change]
    asked: list[tuple[tuple[int, ...], int]] = []

    def explain(rows: Mapping[str, Array], which: int) -> str:
        asked.append((rows["input"].shape, which))
        return "at the second layer"

    parity = compare(Model(), Model(**{output: only(when, changed)}), ROWS, atol, 0.95, explain=explain)

    found = wrong(parity)
    assert list(found) == [name]
    assert (found[name].decides, found[name].output) == (True, place)
    said = [part for part in found[name].detail.split("; ") if part.startswith(f"output {output!r}")]
    assert len(said) == 1
    assert re.search(words, said[0]), said
    assert not parity.edges_ok
    assert [which for _, which in asked] == [place]
    assert parity.where == "at the second layer"


def test_where_decisions_count_another_figure_is_told_and_does_not_decide() -> None:
    change = {"embedding": only(EDGES["zeros"][0], lambda one: one + 3)}
    parity = compare(Model(), Model(**change), ROWS, None, 0.95)
    assert wrong(parity) == {}
    zeros = next(edge for edge in parity.edges if edge.name == "all zeros")
    assert "output 'embedding' differs by 2." in zeros.detail
    assert "output 'steps' differs by 0.0e+00" in zeros.detail


def test_a_difference_is_a_share_of_the_largest_value_over_all_rows() -> None:
    largest = float(np.abs(Model().predict(ROWS)["embedding"]).max())
    off = only(EDGES["zeros"][0], lambda one: one + 0.9e-4 * largest)
    assert compare(Model(), Model(embedding=off), ROWS, 1e-4, 0.95).edges_ok
    off = only(EDGES["zeros"][0], lambda one: one + 1.1e-4 * largest)
    assert not compare(Model(), Model(embedding=off), ROWS, 1e-4, 0.95).edges_ok


def test_where_the_original_gives_nan_itself_that_is_said_and_a_candidate_is_not_blamed() -> None:
    def length(one: Array, rows: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return one / np.sqrt(np.square(one).sum(axis=1, keepdims=True))

    parity = compare(Model(embedding=length), Model(embedding=length), ROWS, 1e-4, 0.95)
    zeros = next(edge for edge in parity.edges if edge.name == "all zeros")
    assert zeros.ok
    assert "output 'embedding' is not compared: the original's is not finite" in zeros.detail


def test_an_invented_row_that_the_original_answers_with_nan_is_not_compared_and_a_real_one_is() -> None:
    def hidden(one: Array, rows: Array) -> Array:
        return one * np.nan if not rows.any() else one

    zeros = next(
        edge for edge in compare(Model(probabilities=hidden), Model(), ROWS, 1e-4, 0.95).edges if "zeros" in edge.name
    )
    assert (zeros.ok, zeros.detail.partition("; ")[0]) == (True, "not compared: the original's is not finite")
    assert wrong(compare(Model(), Model(probabilities=hidden), ROWS, 1e-4, 0.95)).keys() == {"all zeros"}
    for output in ("probabilities", "steps"):
        nan = only(EDGES["length"][0], lambda one: one * np.nan)
        both = compare(Model(**{output: nan}), Model(**{output: nan}), ROWS, None, 0.95)
        assert wrong(both).keys() == {"axis 'steps' at 15 (longest)"}


def test_an_output_that_hides_a_nan_is_told_from_those_that_do_not() -> None:
    parity = compare(Model(), Model(embedding=lambda one, _: np.nan_to_num(one)), ROWS, 1e-4, 0.95)
    odd = next(edge for edge in parity.edges if edge.name == "NaN in input")
    assert not odd.ok
    assert not odd.decides
    told = "NaN in probabilities, ordinary numbers in embedding, NaN in steps; the original: NaN"
    assert odd.detail == told


def test_a_further_output_wrong_on_ordinary_rows_is_explained_with_the_row_where_it_is_most() -> None:
    asked: list[tuple[Array, int]] = []

    def wrong_at(one: Array, rows: Array) -> Array:
        hit = (rows == ROWS["input"][23]).all(axis=(1, 2)) if rows.shape[1:] == (6, 4) else np.zeros(len(rows), bool)
        return np.where(hit[:, None], one + 1, one)

    def explain(rows: Mapping[str, Array], which: int) -> str:
        asked.append((rows["input"], which))
        return "there"

    parity = compare(Model(), Model(steps=wrong_at), ROWS, 1e-4, 0.95, explain=explain)
    assert [one.row for one in parity.further] == [0, 23]
    ((rows, which),) = asked
    assert which == 2
    np.testing.assert_array_equal(rows, ROWS["input"][23:24])
    assert parity.where == "there"
