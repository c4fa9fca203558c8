"""Stories in which something is lost or killed: no verdict is lost, and no reaction is made twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from deployments.stack import status
from deployments.stories.code import rows, turned
from deployments.stories.stage import Stage, check

DELAYS_S = (3.0, 5.0, 7.0)


def event_lost(stage: Stage) -> None:
    """The automation is switched off: the next scheduled run starts what its event should have started."""
    stage.begin()
    automation = f"{stage.name}: damage → react"
    found = stage.prefect("POST", "/automations/filter", {"limit": 200})
    identity = next(one["id"] for one in found if one["name"] == automation)
    stage.prefect("PATCH", f"/automations/{identity}", {"enabled": False})
    features, labels = rows(1)
    verdict = stage.judged(turned(features), labels)
    check(verdict["decision"]["action"] == "retrain", "a retrain is due", verdict)
    time.sleep(5)
    check(stage.acts("started") == [], "and nothing has started it", stage.acts("started"))
    again = stage.monitor()
    check(again.get("started") == verdict["digest"], "the next run starts it", again)
    check(stage.finished()["outcome"] == "version 2 serves", "it is done", stage.acts("finished"))
    stage.monitor()
    check(len(stage.acts("started")) == 1, "once", stage.acts("started"))


def kill_9(stage: Stage) -> None:
    """The monitor, the worker and each server are killed: verdicts and the reaction are all there, each once."""
    stage.begin()
    features, labels = rows(0)
    stage.send(features, labels)
    for delay in DELAYS_S:
        command = stage.line("monitor", stage.recipe)
        running = subprocess.Popen(
            command, env=stage.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            running.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
    stage.monitor()
    judged = [(one.lo, one.hi) for one in stage.watch.verdicts()]
    check(judged == [(0, 120)], "the window is judged once", judged)

    features, labels = rows(1)
    verdict = stage.judged(turned(features), labels)
    check(verdict["decision"]["action"] == "retrain", "a retrain is due", verdict)
    stage.wait_for("the reaction has begun", lambda: stage.acts("started"))
    for service in ("worker", "mlflow", "prefect", f"scoring-{stage.name}"):
        _kill(stage, service)

    def done() -> bool:
        if stage.acts("finished"):
            return True
        stage.monitor()  # as the schedule would
        time.sleep(3)
        return False

    stage.wait_for("the reaction is taken up and ends", done)
    check([one["version"] for one in stage.acts("finished")] == [2], "it ends once", stage.entries("reactions"))
    check(len(stage.acts("started")) == 1, "and was begun once", stage.acts("started"))
    stage.wait_for("version 2 answers", lambda: stage.serving() == "2")
    judged = [(one.lo, one.hi) for one in stage.watch.verdicts()]
    check(judged == [(0, 120), (120, 240)], "no verdict is lost or made twice", judged)


def _kill(stage: Stage, name: str) -> None:
    """`kill -9`, and wait until the supervisor has it back."""
    before = {service.name: service.pid for service in status(stage.settings)}[name]
    if before:
        os.kill(before, signal.SIGKILL)

    def back() -> bool:
        now = {service.name: service for service in status(stage.settings)}[name]
        return now.ready and now.pid != before

    stage.wait_for(f"{name} is back", back)
