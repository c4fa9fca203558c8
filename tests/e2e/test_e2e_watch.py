"""The watch on the real servers: healthy traffic, drifted traffic, the automation's reaction, what is served after."""

from __future__ import annotations

import time
from dataclasses import replace

import httpx
import pytest
from e2e_world import Released, World

from trimtab.ledger import Ledger
from trimtab.monitoring.policy import about
from trimtab.watch import Watch

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_damage_under_drift_is_retrained_by_the_automation_and_what_is_served_recovers(
    world: World, released: Released
):
    recipe = world.recipe("once")
    assert set(released.answered) == {"1"}
    healthy = world.trimtab("monitor", recipe)
    assert healthy["verdict"] == "healthy", healthy
    assert world.trimtab("monitor", recipe)["verdict"] is None  # nothing new

    world.send("once", shift=1.5)
    damaged = world.trimtab("monitor", recipe)
    assert damaged["verdict"] == "drift+damage", damaged
    assert damaged["decision"]["action"] == "retrain"

    entry = finished(world, damaged["digest"])
    assert entry["outcome"] == "version 2 serves", entry
    watch = Watch(recipe, world.settings)
    learnt = watch.release_facts(2)["retraining"]
    assert (learnt["weight"], learnt["windows"]) == (2.0, [[120, 240]])
    assert learnt["warm_start"] == watch.release_facts(1)["original"]
    url = world.settings.scoring["once"]
    assert httpx.get(f"{url}/version").json()["version"] == "2"
    assert set(world.send("once", shift=1.5)) == {"2"}
    after = world.trimtab("monitor", recipe)
    assert after["verdict"] == "healthy", after

    reports = list((world.home / "reports" / "once").glob("window-*.html"))
    assert len(reports) == 3
    page = httpx.get(f"{url}/reports/once/{reports[0].name}")
    assert page.status_code == 200

    back = world.trimtab("rollback", "once", "--why", "to see it go back")
    assert back["version"] == 1
    wait_for_version(url, "1")
    with_stage = world.trimtab("promote", "once", "2", "--why", "and forward again")
    assert with_stage["version"] == 2
    wait_for_version(url, "2")
    assert world.trimtab("doctor", "--fix")["ok"]


def test_an_alert_whose_event_was_lost_is_said_once_by_the_monitor_runs_that_follow(world: World):
    """After the test above: version 2 serves, and a verdict on it stands in the ledger of which no event was sent."""
    recipe = world.recipe("once")
    watch = Watch(recipe, world.settings)
    last = watch.verdicts()[-1]
    lost = replace(last, kind="drift", replaces=last.digest)
    watch.record(lost)

    def said() -> list[str]:
        bodies = [item.entry["body"] for item in watch.ledger.read("alerts/once")]
        return [body for body in bodies if body == about(lost.digest)]

    assert world.trimtab("monitor", recipe)["verdict"] is None
    deadline = time.monotonic() + 60
    while not said() and time.monotonic() < deadline:
        time.sleep(0.5)
    world.trimtab("monitor", recipe)
    assert len(said()) == 1


def finished(world: World, digest: str) -> dict[str, str]:
    """The ledger's record of the reaction, once it has ended."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for item in Ledger(world.settings.ledger).read("reactions/once"):
            if item.entry["act"] == "finished" and item.entry["verdict"] == digest:
                return dict(item.entry)
        time.sleep(1)
    raise AssertionError(f"no reaction; the worker says:\n{(world.home / 'logs' / 'worker.log').read_text()[-4000:]}")


def wait_for_version(url: str, version: str) -> None:
    """What serves follows the registry."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if httpx.get(f"{url}/version").json()["version"] == version:
            return
        time.sleep(0.2)
    raise AssertionError(httpx.get(f"{url}/version").text)


@pytest.mark.slow
def test_stock_mlflow_serves_the_champion_under_the_same_supervision(world: World):
    recipe = world.recipe("stock", seed=2, backend="mlflow")
    world.trimtab("up", recipe)
    url = world.settings.scoring["stock"]
    assert httpx.get(f"{url}/ping").status_code == 503
    world.trimtab("release", recipe)
    answer = httpx.post(f"{url}/invocations", json={"instances": [[2.0, 0.0, 0.0, 0.0]]}, timeout=30)
    assert answer.status_code == 200, answer.text
    probabilities = answer.json()["predictions"]["probabilities"][0]
    assert max(range(3), key=probabilities.__getitem__) == 0
