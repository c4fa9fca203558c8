"""Deliberately wrong conversions: each is caught before registration, and the message names what is wrong."""

import shutil
from pathlib import Path

import pytest

from benchmarks.convert.mutations import MUTATIONS, Mutation
from benchmarks.convert.worlds import World, make, objection, worlds


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[World, Path]]:
    """Each world with the folder of its right conversion."""
    found = {}
    for name, world in worlds().items():
        folder = tmp_path_factory.mktemp(name)
        make(world, folder)
        found[name] = (world, folder)
    return found


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_a_wrong_conversion_is_caught_and_named(
    mutation: Mutation, whole: dict[str, tuple[World, Path]], tmp_path: Path
) -> None:
    world, right = whole[mutation.world]
    folder = tmp_path / "broken"
    shutil.copytree(right, folder)
    mutation.mutate(folder)

    said = objection(world, folder)

    assert said is not None, "nothing objected"
    assert [word for word in mutation.words if word not in said] == [], said


def test_nothing_is_said_against_the_right_conversions(whole: dict[str, tuple[World, Path]]) -> None:
    said = {name: objection(*made) for name, made in whole.items() if name != "branch"}
    assert set(said.values()) == {None}, said


def test_there_are_at_least_twelve_kinds() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 12
