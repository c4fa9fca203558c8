"""Rounding is measured: blocks of a runtime are told from latencies, noise is not, and a recipe's own number stands."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.compress.groups import Group, channels_kept
from trimtab.compress.search.rounding import OFFSETS, Rounding, asked, decide, shapes_to_measure
from trimtab.recipe.schema import Compress, Prune


def at_widths(block: int, widths: tuple[int, ...] = (32, 40, 44, 48)) -> dict[int, float]:
    """Latency of a runtime that computes channels in blocks, growing with the square of the padded width."""
    padded = [-(-width // block) * block for width in widths]
    return {offset: 0.1 + (width / 64) ** 2 for offset, width in zip(OFFSETS, padded, strict=True)}


@pytest.mark.parametrize(("block", "expected"), [(16, 16), (8, 8), (4, 4), (1, 4)])
def test_the_block_of_a_runtime_is_found_from_its_latencies(block: int, expected: int) -> None:
    found = decide({"a": at_widths(block)}, 0.03)
    assert found.round_to == expected
    assert "on a" in found.reason


def test_the_first_target_decides_and_the_others_are_recorded() -> None:
    found = decide({"a": at_widths(16), "b": at_widths(4)}, 0.03)
    assert found.round_to == 16
    assert found.latency["b"] == at_widths(4)
    assert Rounding.from_json(json.loads(json.dumps(found.to_json()))) == found


@given(st.lists(st.floats(0.98, 1.02), min_size=4, max_size=4))
def test_within_the_noise_it_is_eight_and_said_so(values: list[float]) -> None:
    found = decide({"a": dict(zip(OFFSETS, values, strict=True))}, 0.05)
    assert found.round_to == 8
    assert "noise of 5.0 %" in found.reason


def group(channels: int, name: str = "conv", blocks: int = 1, reason: str = "") -> Group:
    return Group(name, channels, (name,), 10, blocks, 1, reason)


def test_wide_groups_are_measured_at_about_half_and_what_is_narrow_or_cannot_be_cut_is_left_alone() -> None:
    field = [
        group(64, "wide"),
        group(32, "least"),
        group(16, "narrow"),
        group(64, "heads", 4),
        group(64, "no", reason="x"),
    ]
    shapes = shapes_to_measure(field)
    kept = {
        offset: {root: channels_kept({"wide": 64, "least": 32}[root], ratio, 1) for root, ratio in shape.ratios.items()}
        for offset, shape in shapes.items()
    }
    assert kept == {
        0: {"wide": 32, "least": 16},
        8: {"wide": 40, "least": 24},
        12: {"wide": 44, "least": 28},
        16: {"wide": 48},  # 32 channels are what the other has
    }
    assert shapes_to_measure(field[2:]) == {}


@given(st.integers(32, 1024))
def test_every_width_that_is_measured_is_exactly_what_was_meant(channels: int) -> None:
    base = 16 * (channels // 32)
    for offset, shape in shapes_to_measure([group(channels)]).items():
        for ratio in shape.ratios.values():
            assert channels_kept(channels, ratio, 1) == base + offset


def test_a_recipe_that_names_a_number_is_not_measured() -> None:
    assert asked(Compress(prune=Prune(round_to=4))) == Rounding(4, "the recipe's")
    assert asked(Compress(prune=None)) == replace(Rounding(1, ""), reason="no channels are removed")
    assert asked(Compress()) is None
