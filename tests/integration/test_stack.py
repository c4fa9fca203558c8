"""The real servers on free ports: they start, are reused, fire schedules and events, and come back after `kill -9`."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from receivers import json_receiver, mailbox
from stack_world import World, wait_for, world

from benchmarks.registry.world import World as Releases
from deployments.automations import automate
from deployments.deploy import deploy
from deployments.stack import down, status, up
from deployments.stack.blank import DATABASE
from deployments.stack.leftovers import flow_runs, servers
from deployments.stack.record import read_ports
from deployments.stack.supervise import Supervisor
from trimtab.settings import Settings

__all__ = ["world"]  # the fixture
ALERTS = """
  alerts:
    webhook: A_HOOK
    slack: A_SLACK
    email: {server: AN_SMTP, sender: trimtab@example.org, to: [ops@example.org]}
"""

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_every_server_answers_and_a_port_in_use_is_left_to_its_owner(world: World) -> None:
    found = {service.name: service for service in status(world.settings)}

    assert set(found) == {"prefect", "mlflow", "worker", "evidently", "registry-watch"}
    assert all(service.ready and service.log.exists() for service in found.values())
    assert read_ports(world.settings).prefect != world.blocked  # type: ignore[union-attr]
    assert set(world.first.started) == set(found)
    assert (world.home / "prefect" / DATABASE).is_file()  # the name under which a blank one is laid out


def test_mlflow_is_one_process_that_answers_to_local_names_only(world: World) -> None:
    pid = world.pids()["mlflow"]
    url = f"{world.settings.mlflow_tracking_uri}/api/2.0/mlflow/experiments/search?max_results=1"

    assert psutil.Process(pid).children(recursive=True) == []
    assert httpx.get(url, trust_env=False).status_code == 200
    assert httpx.get(url, headers={"Host": "evil.example"}, trust_env=False).status_code == 403


def test_a_second_up_starts_nothing(world: World) -> None:
    before = world.pids()
    again = up(world.settings)

    assert again.reused
    assert again.started == ()
    assert world.pids() == before


def test_a_release_to_serve_is_added_without_touching_the_others(world: World) -> None:
    before = world.pids()
    stack = up(world.settings, release="tiny")

    assert stack.started == ("scoring-tiny",)
    assert {name: pid for name, pid in world.pids().items() if name != "scoring-tiny"} == before
    assert stack.settings.scoring_for("tiny") == world.settings.scoring_for("tiny")


def test_the_schedule_really_fires(world: World) -> None:
    wait_for("a monitor run made by the schedule", lambda: world.lines("monitored.txt"))
    finished = wait_for("it is completed", lambda: [r for r in world.runs("monitor") if r["state_type"] == "COMPLETED"])

    assert finished[0]["auto_scheduled"]
    assert world.deployment("monitor")["schedules"][0]["schedule"]["timezone"] == "UTC"  # an interval of seconds
    sweep = world.deployment("sweep")["schedules"][0]["schedule"]
    assert (sweep["cron"], sweep["timezone"]) == ("30 3 * * *", "UTC")


def test_a_schedule_that_a_user_paused_stays_paused_and_deploying_again_changes_nothing_else(world: World) -> None:
    before = world.deployment("monitor")
    world.set_schedule(active=False)

    names = deploy(world.settings, world.recipe, root=world.recipe.parent)

    after = world.deployment("monitor")
    assert set(names) == {
        *("release/tiny", "monitor/tiny", "react/tiny", "retention/tiny", "score/tiny", "sweep/tiny", "alert/tiny")
    }
    assert [schedule["active"] for schedule in after["schedules"]] == [False]
    assert (after["id"], after["parameters"]) == (before["id"], before["parameters"])
    assert after["schedules"][0]["schedule"] == before["schedules"][0]["schedule"]


def test_an_event_starts_the_reaction_with_its_verdict(world: World) -> None:
    event = {
        "id": str(uuid4()),
        "event": "trimtab.verdict.damage",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": "trimtab.release.tiny"},
        "payload": {"verdict": "0123456789"},
    }
    world.api("POST", "/events", [event])

    wait_for("the reaction", lambda: world.lines("reacted.txt"))
    assert world.lines("reacted.txt") == ["0123456789"]


def test_a_hand_in_mlflow_is_honoured_or_put_back_with_an_alert_by_the_process_that_watches(world: World) -> None:
    releases = Releases(str(world.settings.mlflow_tracking_uri), world.home, "by-hand")
    first, second = releases.release(0.0), releases.release(1.0)
    releases.promote(first)
    move = releases.registry.client.transition_model_version_stage

    move("by-hand", str(second), "Production", archive_existing_versions=True)
    wait_for("the alias", lambda: releases.disagreements() == [] and releases.serves_consistently() == second)
    move("by-hand", str(releases.made_by_hand()), "Production", archive_existing_versions=True)
    (alert,) = wait_for("the alert", lambda: releases.registry.ledger.read("alerts/by-hand"))

    assert alert.entry["subject"].endswith("is not served; version 2 serves")
    assert "no record of having passed the gate" in alert.entry["body"]
    assert releases.serves_consistently() == second
    assert any(alert.entry["subject"] in line for line in world.lines("alerts.log"))
    (run,) = world.api("POST", "/flow_runs/filter", {"flow_runs": {"name": {"any_": [alert.entry["subject"]]}}})
    assert run["deployment_id"] is None


def test_automations_are_updated_in_place_and_one_that_was_switched_off_stays_off(world: World) -> None:
    def found() -> dict[str, tuple[str, bool]]:
        return {a["name"]: (a["id"], a["enabled"]) for a in world.api("POST", "/automations/filter", {})}

    identity, _ = found()["tiny: verdict → alert"]
    world.api("PATCH", f"/automations/{identity}", {"enabled": False})
    before = found()

    automate(world.settings, world.recipe, "tiny")

    assert found() == before
    assert not found()["tiny: verdict → alert"][1]


def test_a_failed_run_raises_an_alert(world: World) -> None:
    run = world.run("release", reason="fail")

    line = wait_for("the alert", lambda: world.lines("alerts.txt"))[0]
    assert line.startswith("tiny|release Failed: ")
    assert "as the test asked" in line
    assert world.state(run) == "FAILED"


def test_an_alert_that_was_written_reaches_everybody_the_recipe_names(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with json_receiver() as (hook, hooked), json_receiver() as (slack, slacked), mailbox() as (smtp, mails):
        for name, where in {"A_HOOK": hook, "A_SLACK": slack, "AN_SMTP": smtp}.items():
            monkeypatch.setenv(name, where)
        told = world.recipe.with_name("told.yaml")
        told.write_text(world.recipe.read_text() + ALERTS)
        assert "tiny: alert → notify" in automate(world.settings, told, "tiny")
        event = {
            "id": str(uuid4()),
            "event": "trimtab.alert",
            "occurred": datetime.now(UTC).isoformat(),
            "resource": {"prefect.resource.id": "trimtab.release.tiny"},
            "payload": {"subject": "tiny: drift: it drifted", "body": "rows 0–200\n- p = 1e-9"},
        }
        world.api("POST", "/events", [event])

        wait_for("the webhook", lambda: hooked)
        wait_for("Slack", lambda: slacked)
        wait_for("the mail", lambda: [text for verb, text in mails if verb == "DATA"])
    assert hooked == [{"subject": "tiny: drift: it drifted", "body": "rows 0–200\n- p = 1e-9"}]
    assert slacked == [{"text": "*tiny: drift: it drifted*\nrows 0–200\n- p = 1e-9"}]

    automate(world.settings, world.recipe, "tiny")
    left = {automation["name"] for automation in world.api("POST", "/automations/filter", {})}
    assert "tiny: alert → notify" not in left


def test_a_run_that_has_ended_is_never_made_crashed(world: World) -> None:
    """What the silent-run automation asks of the server, when a heartbeat came after the end."""
    run = world.run("release", reason="quick")
    wait_for("the end of the run", lambda: world.state(run) == "COMPLETED")

    answer = world.api("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CRASHED"}, "force": False})

    assert answer["status"] == "ABORT"
    assert world.state(run) == "COMPLETED"


def test_missed_runs_do_not_all_start_when_the_worker_comes_back(world: World) -> None:
    supervisor = Supervisor.find(world.settings)
    assert supervisor
    world.set_schedule(active=True)
    wait_for("scheduled runs", lambda: [r for r in world.runs("monitor") if r["state_type"] == "SCHEDULED"])
    supervisor.stop("worker")

    def late() -> list[dict[str, Any]]:
        now = datetime.now(UTC).isoformat()
        return [r for r in world.runs("monitor") if r["state_type"] == "SCHEDULED" and r["expected_start_time"] < now]

    try:
        wait_for("three missed runs", lambda: len(late()) >= 3)
        missed = {run["id"] for run in late()}
    finally:
        up(world.settings)

    def names() -> list[str]:
        return [run["state_name"] for run in world.runs("monitor") if run["id"] in missed]

    wait_for("the missed runs are settled", lambda: not {"Scheduled", "Late", "Pending", "Running"} & set(names()))
    world.set_schedule(active=False)
    assert names().count("Skipped") >= len(missed) - 1


def test_every_server_comes_back_after_kill_9_and_no_run_stays_running(world: World) -> None:
    run = world.run("release", reason="sleep")
    wait_for("the run is under way", lambda: (world.home / "asleep").exists())
    before = world.pids()
    assert all(before.values())
    for process in flow_runs(world.settings)[run]:
        process.kill()
    for pid in before.values():
        os.kill(int(pid or 0), signal.SIGKILL)

    def back() -> bool:
        return all(service.ready and service.pid != before[service.name] for service in status(world.settings))

    wait_for("every server is back", back)
    wait_for("the run is no longer Running", lambda: world.state(run) == "CRASHED")
    assert up(world.settings).reused


def test_up_recovers_from_kill_9_of_the_supervisor(world: World) -> None:
    supervisor, ports = Supervisor.find(world.settings), read_ports(world.settings)
    assert supervisor
    orphans = [pid for pid in world.pids().values() if pid]
    os.kill(supervisor.pid(), signal.SIGKILL)
    wait_for("the supervisor is gone", lambda: Supervisor.find(world.settings) is None)

    stack = up(world.settings)

    assert not stack.reused
    assert read_ports(world.settings) == ports
    assert all(service.ready for service in status(world.settings))
    assert not [pid for pid in orphans if psutil.pid_exists(pid)]


def test_down_cancels_what_is_in_flight_and_leaves_nothing(world: World) -> None:
    (world.home / "asleep").unlink(missing_ok=True)
    run = world.run("release", reason="sleep")
    wait_for("the run is under way", lambda: (world.home / "asleep").exists())
    settings = world.settings

    assert down(settings)

    assert servers(settings) == []
    assert flow_runs(settings) == {}
    assert not (world.home / "stack.json").exists()
    assert {service.state for service in status(settings)} == {"DOWN"}
    stack = up(Settings.load(world.home))
    assert stack.settings.prefect_api_url == settings.prefect_api_url
    assert world.state(run) in ("CANCELLED", "CRASHED")
