"""One stack of real servers for all end-to-end tests, and on it one release that most of them go on from."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e_world import Released, World
from forked import Forks

from deployments.environment import environment
from deployments.stack import down, up
from trimtab.settings import Settings

# What commands import: the flows, MLflow, and what trains, converts and reports.
HEAVY = ("flows.release", "flows.monitor", "tasks.stages", "trimtab.monitoring.evidently_report")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The real Prefect, MLflow, worker and Evidently servers on free ports; stopped at the end."""
    root: Path = tmp_path_factory.mktemp("e2e")
    settings = Settings(home=root / "home")
    (root / "project").mkdir()
    try:
        known = up(settings).settings
        with closing(Forks(HEAVY, {**os.environ, **environment(known)})) as forked:
            yield World(root / "home", root / "project", forked)
    finally:
        down(settings)


@pytest.fixture(scope="session")
def released(world: World) -> Released:
    """Version 1 of "once", answering, with its first window of traffic; a second release was refused meanwhile."""
    recipe = world.recipe("once")
    world.cold("up", recipe)
    first = world.start("release", recipe, "--reason", "the first", "--json")
    assert first.stdout is not None
    assert first.stderr is not None
    try:
        assert any("training the original" in line for line in first.stderr)
        os.kill(first.pid, signal.SIGSTOP)  # it holds the lock for as long as the second one asks
        refused = world.trimtab("release", recipe, expect=8)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    log = first.stderr.read()
    assert first.wait(timeout=280) == 0, log
    summary = json.loads(first.stdout.read().strip().splitlines()[-1])
    return Released(summary, refused, world.send("once"))
