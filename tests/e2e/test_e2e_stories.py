"""The quicker ones of `make stories`, on the stack of the end-to-end tests."""

from __future__ import annotations

import pytest
from e2e_world import World

from deployments.stories.book import STORIES
from deployments.stories.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


LONG = [
    pytest.param(name, marks=pytest.mark.stories)
    for name in ("bad_promotion", "drift_without_damage", "broken_producer")
]


@pytest.mark.parametrize("name", ["clock", *LONG])
def test_story(world: World, name: str) -> None:
    STORIES[name](Stage(world.home, world.project, name.replace("_", "-")))
