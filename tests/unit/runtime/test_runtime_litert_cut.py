"""How rows are cut into calls of fixed sizes. The file imports LiteRT, so the tests are left out without it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="needs pip install 'trimtab[litert]'")

from trimtab.runtime.litert_cpu import cut

SIZES = st.lists(st.integers(2, 64), max_size=4, unique=True).map(lambda more: [1, *sorted(more)])


@given(st.integers(1, 500), SIZES)
def test_every_row_is_asked_once_in_order_and_little_is_filled_up(rows: int, sizes: list[int]):
    calls = cut(rows, sizes)
    assert [start for start, _ in calls] == [sum(size for _, size in calls[:place]) for place in range(len(calls))]
    asked = sum(size for _, size in calls)
    assert rows <= asked <= rows * 4 / 3
    assert all(start < rows for start, _ in calls)


@pytest.mark.parametrize(
    ("rows", "sizes"), [(1, [1]), (8, [8]), (32, [32]), (17, [8, 8, 1]), (7, [8]), (3, [1, 1, 1]), (40, [32, 8])]
)
def test_the_sizes_of_our_files(rows: int, sizes: list[int]):
    assert [size for _, size in cut(rows, [1, 8, 32])] == sizes
