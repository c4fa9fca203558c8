"""Schedules keep the time of day in their zone through both changes of the clock, and rules name metrics there are."""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule
from prometheus_client import generate_latest

from deployments.deploy import ANCHOR, PREFECT_FILE, schedule_of
from deployments.environment import PACKAGE_ROOT
from trimtab.recipe.schema import Schedule
from trimtab.serving.metrics import Metrics
from trimtab.serving.sampling import Sampler

RULES = PACKAGE_ROOT / "deployments" / "prometheus" / "alerts.yaml"
OWN = {"up"}  # what Prometheus itself adds


def dates(schedule: Schedule, zone: str, start: datetime, count: int) -> list[datetime]:
    """When Prefect's server runs what we deploy, as local times."""
    written = {"anchor_date": ANCHOR, **schedule.model_dump(exclude_none=True)}
    if schedule.interval_s is not None:
        written["interval"] = schedule.interval_s
    found = schedule_of(written)
    kind = CronSchedule if schedule.cron is not None else IntervalSchedule
    server = kind.model_validate(found.model_dump(exclude_unset=False))
    return [date.astimezone(ZoneInfo(zone)) for date in asyncio.run(server.get_dates(count, start))]


@pytest.mark.parametrize("day", [datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 10, 23, tzinfo=UTC)])
@pytest.mark.parametrize("hour", [4, 12])
def test_a_daily_schedule_fires_once_a_day_at_its_hour_over_both_changes(day: datetime, hour: int) -> None:
    zone = "Europe/Berlin"
    found = dates(Schedule(cron=f"30 {hour} * * *", timezone=zone), zone, day, 5)

    assert [(date.hour, date.minute) for date in found] == [(hour, 30)] * 5
    assert len({date.date() for date in found}) == 5
    assert len({date.utcoffset() for date in found}) == 2


@pytest.mark.parametrize("day", [datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)])
def test_a_schedule_in_the_hour_that_is_skipped_or_repeated_still_fires_once_that_day(day: datetime) -> None:
    zone = "Europe/Berlin"
    found = dates(Schedule(cron="30 2 * * *", timezone=zone), zone, day, 3)

    assert len({date.date() for date in found}) == 3


@pytest.mark.parametrize("day", [datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC)])
def test_a_short_interval_goes_on_at_its_pace(day: datetime) -> None:
    found = dates(Schedule(interval_s=600, timezone="Europe/Berlin"), "UTC", day, 40)

    assert {(later - earlier).total_seconds() for earlier, later in itertools.pairwise(found)} == {600}


@pytest.mark.parametrize("day", [datetime(2026, 3, 26, tzinfo=UTC), datetime(2026, 10, 22, tzinfo=UTC)])
def test_a_daily_interval_keeps_its_hour(day: datetime) -> None:
    zone = "Europe/Berlin"
    found = dates(Schedule(interval_s=86_400, timezone=zone), zone, day, 6)

    assert len({date.hour for date in found}) == 1
    assert len({date.date() for date in found}) == 6


def test_what_runs_by_schedule_never_overlaps_itself_and_states_its_zone() -> None:
    written = yaml.safe_load(PREFECT_FILE.read_text())
    scheduled = [entry for entry in written["deployments"] if "schedules" in entry]

    assert {entry["entrypoint"] for entry in scheduled} >= {"flows/monitor.py:monitor", "flows/sweep.py:sweep"}
    for entry in scheduled:
        limit = entry["concurrency_limit"]
        assert (limit["limit"], limit["collision_strategy"]) == (1, "CANCEL_NEW")
        assert all("timezone" in schedule for schedule in entry["schedules"])


def shown(folder: Path) -> set[str]:
    """Names of the series that a scoring service shows."""
    metrics = Metrics()
    metrics.requests.labels(200).inc()
    metrics.model_errors.labels("NotFinite").inc()
    metrics.process_deaths.labels("champion").inc()
    Sampler(folder, metrics.registry, version=lambda: None, queue=lambda: 0).sample()
    return set(re.findall(r"^([a-z_]+)(?:\{|\s)", generate_latest(metrics.registry).decode(), re.M))


def test_every_metric_that_an_alert_rule_names_is_one_that_the_service_shows(tmp_path: Path) -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    known = shown(tmp_path) | OWN

    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        named = set(re.findall(r"\b(?:trimtab|process)_[a-z_]+\b|\bup\b", rule["expr"]))
        assert named, rule
        assert named <= known, rule
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
