"""The loop of `make run`: release → healthy traffic → drifted traffic → verdict → retrain → recovered traffic."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect import tags
from prefect.deployments import run_deployment
from rich.console import Console

from deployments.automations import automate
from deployments.demo.traffic import Sent, Trickle, connect, post_labels, send
from deployments.deploy import deploy
from flows.release import release
from trimtab import runtime
from trimtab.asking import scoring_client
from trimtab.compress.assess import predicted
from trimtab.data import Split, load_split
from trimtab.errors import StateError
from trimtab.journal import reader
from trimtab.monitoring.verdict import Verdict
from trimtab.recipe import UserCode
from trimtab.settings import Settings
from trimtab.store import write_atomic
from trimtab.watch import Watch

PATIENCE_S = 300.0
PERIOD_S = 10.0
LINES_LOOKED_AT = 10
# Prefect's own lines, which say nothing of the work.
FRAMEWORK = ("Finished in state", "deployment step", "submitted to infrastructure", "Beginning", "View at")
Phase = Callable[[], dict[str, Any]]


class Loop:
    """One walk through the loop; each finished phase is written down, so that a second walk reuses it."""

    def __init__(self, settings: Settings, recipe: Path, console: Console, begin: float) -> None:
        self.settings, self.recipe, self.console, self.begin = settings, recipe, console, begin
        self.watch = Watch(recipe, settings)
        self.code = UserCode(recipe)
        self.url = settings.scoring[self.watch.name]
        self.http = connect()
        self.scoring = scoring_client(settings, self.watch.name)
        self.record = settings.home / "demo.json"
        self.done: dict[str, Any] = json.loads(self.record.read_text()) if self.record.exists() else {}
        self.seconds = {"training": 0.0, "measuring": 0.0, "serving": 0.0}

    def release(self) -> None:
        """Deploy the flows, make the first release."""
        deployed = deploy(self.settings, self.recipe)
        automated = automate(self.settings, self.recipe, self.watch.name)
        self.say("deployed", ", ".join([*deployed, *automated]))
        self.phase("release", self.first_release)

    def watch_it(self) -> None:
        """Traffic, drift, reaction, recovery, in this order."""
        phases: dict[str, Phase] = {
            "healthy": lambda: self.traffic("traffic-1", "healthy"),
            "drifted": lambda: self.traffic("traffic-1-drifted", "drift+damage"),
            "reaction": self.reaction,
            "recovered": lambda: self.traffic("traffic-2-drifted", "healthy"),
        }
        for name, phase in phases.items():
            self.phase(name, phase)

    def phase(self, name: str, work: Phase) -> None:
        """Do a phase, or say that it was done before."""
        self.console.rule(f"[bold]{name}", align="left")
        if name in self.done:
            self.say(name, "done before: reused")
            return
        self.done[name] = work()
        write_atomic(self.record, json.dumps(self.done).encode())

    def first_release(self) -> dict[str, Any]:
        """The first release, in this process; its flow run is in the Prefect UI like any other."""
        with tags("trimtab", self.watch.name):
            summary = release(str(self.recipe), str(self.settings.home), "first release")
        for kind, spent in summary["seconds"].items():
            self.seconds[kind] += spent
        return summary

    def traffic(self, split: str, expected: str) -> dict[str, Any]:
        """Send a split, post its labels, and wait for the verdict of the monitoring deployment."""
        data = load_split(self.code, split)
        offset = reader.end(self.watch.journal)
        asked = self.ask_for_a_verdict()  # its process takes longer to start than the requests to be answered
        start = time.monotonic()
        sent = send(self.scoring, self.url, data)
        post_labels(self.scoring, self.url, sent)
        self.seconds["serving"] += time.monotonic() - start
        self.say(split, f"{len(sent.ids)} requests, {sent.failed} failed, accuracy {sent.accuracy:.1%}")
        verdict = self.verdict_on(sent.versions[-1], offset, asked)
        self.say("verdict", f"{verdict.kind}: {'; '.join(verdict.reasons[:2])}")
        if verdict.kind != expected:
            raise StateError(
                f"the verdict is {verdict.kind!r}, expected {expected!r}: {'; '.join(verdict.reasons)}",
                where=split,
                fix="see the Evidently report of the window; start over with `make down clean run`",
            )
        return {"accuracy": sent.accuracy, "failed": sent.failed, "verdict": verdict.kind, "versions": versions(sent)}

    def verdict_on(self, version: str, offset: int, asked: bool) -> Verdict:
        """The verdict on the rows a version answered after an offset; the deployment is asked again now and then."""
        again = PERIOD_S if asked else 0.0
        for waited in self.waiting("the monitoring flow"):
            for verdict in self.watch.verdicts():
                if verdict.version == version and verdict.hi > offset:
                    return verdict
            if waited >= again and self.ask_for_a_verdict():
                again = waited + PERIOD_S
        raise AssertionError(version)

    def ask_for_a_verdict(self) -> bool:
        """Run the monitoring deployment now, unless it runs; a window that is not full yet is left for the next one."""
        if self.monitor_runs():
            return False
        run_deployment(f"monitor/{self.watch.name}", timeout=0, as_subflow=False)
        return True

    def monitor_runs(self) -> bool:
        """Whether a monitor run is under way; a second one would be cancelled, because two never overlap."""
        wanted = {
            "flows": {"name": {"any_": ["monitor"]}},
            "flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}},
            "limit": 1,
        }
        try:
            answer = self.http.post(f"{self.settings.prefect_api_url}/flow_runs/filter", json=wanted, timeout=5)
            return bool(answer.raise_for_status().json())
        except (httpx.HTTPError, ValueError):
            return True

    def reaction(self) -> dict[str, Any]:
        """The automation starts the reaction; requests go on all the while, and none may fail."""
        before = json.loads(self.scoring.get("/version").text)["version"]
        data = load_split(self.code, "traffic-1-drifted")
        digest = self.watch.verdicts()[-1].digest
        with Trickle(self.scoring, self.url, data, stop_at_version=str(int(before) + 1)) as trickle:
            entry = self.outcome(digest, trickle)
        if "release" not in entry:
            raise StateError(f"the reaction ended without a release: {entry['outcome']}", where="react")
        for kind, spent in entry["release"]["seconds"].items():
            self.seconds[kind] += spent
        self.say("served", f"{trickle.answered} requests during the swap, {trickle.failed} failed")
        return {**entry["release"], "answered": trickle.answered, "failed": trickle.failed}

    def outcome(self, digest: str, trickle: Trickle) -> dict[str, Any]:
        """How the reaction to a verdict ended, once its version has answered."""
        for _ in self.waiting("the reaction (retrain, gate, promotion)"):
            entry = self.finished(digest)
            if entry is not None and ("release" not in entry or trickle.first_of_version or self.serves(entry)):
                return entry
        raise AssertionError(digest)

    def serves(self, entry: dict[str, Any]) -> bool:
        """Whether the version a reaction made answers: also when it was made before this command was started again."""
        return bool(self.scoring.get("/version").json()["version"] == str(entry["release"]["version"]))

    def finished(self, digest: str) -> dict[str, Any] | None:
        """The ledger's record of the reaction to a verdict, once it has ended."""
        for item in self.watch.ledger.read(f"reactions/{self.watch.name}"):
            if item.entry["act"] == "finished" and item.entry["verdict"] == digest:
                return item.entry
        return None

    def waiting(self, what: str) -> Any:
        """Seconds waited, four times a second; a line every four seconds; an error when it takes too long."""
        start = said = time.monotonic()
        while time.monotonic() - start < PATIENCE_S:
            yield time.monotonic() - start
            time.sleep(0.25)
            if time.monotonic() - said >= 4:
                said = time.monotonic()
                self.say("waiting", f"for {what}, {said - start:.0f} s{self.latest_log()}")
        raise StateError(
            f"{what} did not finish within {PATIENCE_S:.0f} s",
            where=self.watch.name,
            fix="look at the flow runs in the Prefect UI and at the worker's log (`trimtab status`)",
        )

    def latest_log(self) -> str:
        """The newest line of any flow run's log that says something of the work, as Prefect has it."""
        newest = {"sort": "TIMESTAMP_DESC", "limit": LINES_LOOKED_AT}
        try:
            lines = self.http.post(f"{self.settings.prefect_api_url}/logs/filter", json=newest, timeout=3).json()
            line = informative([str(line["message"]) for line in lines])
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return ""
        return f"; {line[:90]}" if line else ""

    def offline(self, version: int | str, split: Split) -> float:
        """Accuracy of a registered version on a split, by the Predictor that serves it."""
        folder = self.watch.release(version)
        facts = json.loads((folder / "release.json").read_bytes())
        predictor = runtime.load(facts["target"], folder, facts["threads"])
        return float((predicted(predictor, split.inputs).argmax(1) == split.labels).mean())

    def say(self, what: str, text: str) -> None:
        """One line on the console."""
        self.console.print(f"  {time.monotonic() - self.begin:6.1f} s  [cyan]{what}[/cyan]  ", end="")
        self.console.print(text, markup=False)


def informative(messages: Sequence[str]) -> str | None:
    """The first line of the first message that is not one of Prefect's own."""
    for message in messages:
        line = message.strip().partition("\n")[0]
        if line and not any(part in line for part in FRAMEWORK):
            return line
    return None


def versions(sent: Sent) -> list[str]:
    """Versions that answered, each once."""
    return sorted({version for version in sent.versions if version})
