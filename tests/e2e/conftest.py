"""One stack of real servers for all end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import World

from deployments.stack import down, up
from trimtab.settings import Settings


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The real Prefect, MLflow, worker and Evidently servers on free ports; stopped at the end."""
    root: Path = tmp_path_factory.mktemp("e2e")
    settings = Settings(home=root / "home")
    (root / "project").mkdir()
    try:
        up(settings)
        yield World(root / "home", root / "project")
    finally:
        down(settings)
