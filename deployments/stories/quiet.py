"""Stories in which nothing must happen, or nobody but a person is told."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import httpx

from deployments.stories.code import nudged, rows
from deployments.stories.stage import Stage, check

WINDOWS = 20


def healthy(stage: Stage) -> None:
    """Twenty windows like the reference: no alarm."""
    stage.begin()
    for seed in range(WINDOWS):
        found = stage.judged(*rows(seed))
        check(found["verdict"] == "healthy", f"window {seed} is healthy", found)
    check(stage.entries("alerts") == [], "nobody is told anything", stage.entries("alerts"))
    check(stage.entries("reactions") == [], "nothing is started", stage.entries("reactions"))


def drift_without_damage(stage: Stage) -> None:
    """Inputs drift and the answers stay right: one alert in three windows, and nothing else."""
    stage.begin(policy="{k: 2, n: 3, cooldown_s: 0}")
    for seed in range(3):
        features, labels = rows(seed)
        found = stage.judged(nudged(features), labels)
        check(found["verdict"] == "drift", "the window drifts without damage", found)
        stage.wait_for("the alert", lambda: stage.alerts("drift"))
    stage.monitor()
    check(len(stage.entries("alerts")) == 1, "there is one alert", stage.entries("alerts"))
    check(stage.entries("reactions") == [], "nothing is started", stage.entries("reactions"))
    check(stage.serving() == "1", "the same version serves", stage.serving())


def broken_producer(stage: Stage) -> None:
    """A producer sends a column that is all null: it is refused at the door, somebody is told, nothing is retrained."""
    stage.begin()
    stage.judged(*rows(0))
    time.sleep(6)  # the service samples itself every five seconds: what follows is counted on its own
    with httpx.Client(timeout=30, trust_env=False) as http:
        for row in rows(1)[0].tolist():
            reply = http.post(f"{stage.url}/invocations", json={"instances": [[row[0], None, *row[2:]]]})
            check(reply.status_code == 400, "null is refused", reply.status_code, reply.text)

    def told() -> bool:
        stage.monitor()
        return bool(stage.alerts("clients"))

    stage.wait_for("the alert", told)
    stage.monitor()
    check(len(stage.alerts("clients")) == 1, "there is one alert", stage.entries("alerts"))
    check(stage.entries("reactions") == [], "nothing is started", stage.entries("reactions"))
    check(len(stage.watch.verdicts()) == 1, "no verdict rests on it", stage.watch.verdicts())


def clock(stage: Stage) -> None:
    """A daily schedule of the recipe, as Prefect's server has it, over both changes of the clock."""
    from prefect.server.schemas.schedules import CronSchedule

    zone = "Europe/Berlin"
    stage.write()
    text = stage.recipe.read_text()
    stage.recipe.write_text(
        text.replace("{interval_s: 3600, timezone: UTC}", f'{{cron: "30 4 * * *", timezone: {zone}}}')
    )
    stage.command("up", stage.recipe)
    written = stage.prefect("GET", f"/deployments/name/monitor/{stage.name}")["schedules"][0]["schedule"]
    check(written["timezone"] == zone, "the server knows the zone", written)
    schedule = CronSchedule.model_validate({key: written[key] for key in ("cron", "timezone")})
    for start in (datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 10, 23, tzinfo=UTC)):
        dates = [day.astimezone(ZoneInfo(zone)) for day in asyncio.run(schedule.get_dates(5, start))]
        check({(day.hour, day.minute) for day in dates} == {(4, 30)}, "it fires at half past four", dates)
        check(len({day.date() for day in dates}) == 5, "once a day", dates)
        check(len({day.utcoffset() for day in dates}) == 2, "over a change of the clock", dates)
    missed = stage.prefect("GET", f"/deployments/name/monitor/{stage.name}")["concurrency_options"]
    check(missed["collision_strategy"] == "CANCEL_NEW", "two never overlap", missed)
