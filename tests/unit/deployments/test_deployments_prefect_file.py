"""prefect.yaml and the automations, as values: no server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.utilities.templating import apply_values

from deployments.automations import failure_alert, reaction, silent_run
from deployments.deploy import ANCHOR, PREFECT_FILE, schedule_of
from deployments.environment import PACKAGE_ROOT
from trimtab.errors import StateError
from trimtab.recipe.schema import Schedule
from trimtab.settings import Settings

WRITTEN = yaml.safe_load(PREFECT_FILE.read_text())


def filled(schedule: Schedule) -> dict:
    values = {"anchor": ANCHOR, "name": "digits", **schedule.model_dump(exclude_none=True)}
    monitor = next(entry for entry in WRITTEN["deployments"] if "monitor" in entry["entrypoint"])
    return apply_values(monitor, values)


@pytest.mark.parametrize(("seconds", "zone"), [(60, "UTC"), (7 * 86_400, "Europe/London")])
def test_an_interval_comes_from_the_recipe_with_a_time_zone_and_a_fixed_start(seconds: int, zone: str) -> None:
    found = schedule_of(filled(Schedule(interval_s=seconds, timezone="Europe/London"))["schedules"][0])

    assert isinstance(found, IntervalSchedule)
    assert (found.interval, found.timezone) == (timedelta(seconds=seconds), zone)
    assert found.anchor_date == datetime(2025, 1, 1, tzinfo=UTC)


def test_a_cron_line_comes_from_the_recipe_with_its_time_zone() -> None:
    found = schedule_of(filled(Schedule(cron="5 4 * * *", timezone="Asia/Tokyo"))["schedules"][0])

    assert isinstance(found, CronSchedule)
    assert (found.cron, found.timezone) == ("5 4 * * *", "Asia/Tokyo")


def test_two_monitors_never_overlap_and_do_not_queue() -> None:
    limit = filled(Schedule(interval_s=60))["concurrency_limit"]

    assert (limit["limit"], limit["collision_strategy"]) == (1, "CANCEL_NEW")


def test_every_deployment_uses_the_worker_pool_and_is_named_after_the_recipe() -> None:
    for entry in WRITTEN["deployments"]:
        assert entry["work_pool"]["name"] == "trimtab"
        assert entry["name"] == "{{ name }}"
    assert (PACKAGE_ROOT / "deployments" / "prefect.yaml").is_file()


def test_damage_starts_the_reaction_with_the_verdict_of_the_event() -> None:
    react = uuid4()
    found = reaction("digits", react, {"recipe": "/r.yaml", "home": "/h"})

    assert isinstance(found.trigger, EventTrigger)
    assert found.trigger.expect == {"trimtab.verdict.damage", "trimtab.verdict.breach", "trimtab.verdict.regression"}
    assert found.trigger.match.model_dump() == {"prefect.resource.id": "trimtab.release.digits"}
    action = found.actions[0].model_dump()
    assert action["deployment_id"] == react
    assert action["parameters"]["verdict"] == {"__prefect_kind": "jinja", "template": "{{ event.payload.verdict }}"}


def test_an_alert_is_raised_for_our_runs_of_this_recipe_only() -> None:
    trigger = failure_alert("digits", uuid4()).trigger

    assert isinstance(trigger, EventTrigger)
    assert isinstance(trigger.match_related, list)
    required = {related.model_dump()["prefect.resource.id"] for related in trigger.match_related}
    assert required == {"prefect.tag.trimtab", "prefect.tag.digits"}
    alert = next(entry for entry in WRITTEN["deployments"] if "alert" in entry["entrypoint"])
    assert "trimtab" not in alert["tags"]


def test_a_silent_run_is_marked_as_crashed_but_never_by_force() -> None:
    found = silent_run()

    assert isinstance(found.trigger, EventTrigger)
    assert found.trigger.posture == Posture.Proactive
    assert "prefect.flow-run.Completed" in found.trigger.expect
    action = found.actions[0].model_dump()
    assert (action["state"], action["force"]) == (StateType.CRASHED, False)


def test_without_a_known_server_the_client_says_what_to_start(tmp_path: Path) -> None:
    from deployments.prefect_api import prefect_client

    with pytest.raises(StateError, match="trimtab up"):
        prefect_client(Settings(home=tmp_path))
