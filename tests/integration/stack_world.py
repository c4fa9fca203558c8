"""A stack of real servers in a state directory of its own, with tiny flows deployed on it, for test_stack.py."""

from __future__ import annotations

import socket
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.automations import automate
from deployments.deploy import deploy
from deployments.stack import Stack, down, status, up
from deployments.stack.leftovers import flow_runs, servers
from deployments.stack.ports import HOST, USUAL, is_free
from trimtab.settings import Settings

PATIENCE_S = 180.0  # a busy machine; nothing is asserted about time

FLOWS = {
    "release": """
        import time
        @flow(name="release")
        def release(recipe: str, home: str, reason: str = "manual", retrain_verdict: str | None = None):
            if reason == "fail":
                raise ValueError("as the test asked")
            if reason == "sleep":
                (Path(home) / "asleep").touch()
                time.sleep(600)
            return reason
    """,
    "monitor": """
        @flow(name="monitor")
        def monitor(recipe: str, home: str):
            with (Path(home) / "monitored.txt").open("a") as stream:
                stream.write("once\\n")
    """,
    "react": """
        @flow(name="react")
        def react(recipe: str, home: str, verdict: str):
            with (Path(home) / "reacted.txt").open("a") as stream:
                stream.write(verdict + "\\n")
    """,
    "retention": """
        @flow(name="retention")
        def retention(recipe: str, home: str):
            return None
    """,
    "score": """
        @flow(name="score")
        def score(release: str, home: str, inputs: str = "", output: str = ""):
            return release
    """,
    "alert": """
        @flow(name="alert")
        def alert(name: str, subject: str, body: str):
            with (Path(os.environ["TRIMTAB_HOME"]) / "alerts.txt").open("a") as stream:
                stream.write(f"{name}|{subject}|{body}\\n")
    """,
}

RECIPE = """
name: tiny
model: tiny:build
data: tiny:split
monitoring:
  schedule: {interval_s: 10, timezone: Europe/London}
"""


def wait_for(what: str, seen: Callable[[], Any]) -> Any:
    """Poll until `seen` gives something true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := seen():
            return found
        time.sleep(0.3)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")


@dataclass
class World:
    """A stack in its own state directory, with tiny flows deployed on it."""

    home: Path
    recipe: Path
    first: Stack
    blocked: int | None  # a usual port that somebody else had

    @property
    def settings(self) -> Settings:
        return Settings.load(self.home)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        with httpx.Client(trust_env=False, timeout=30) as http:
            for _ in range(30):
                answer = http.request(method, f"{self.settings.prefect_api_url}{path}", json=body)
                if answer.status_code != 503:  # SQLite was locked; Prefect's own client tries again, too
                    break
                time.sleep(0.5)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        return dict(self.api("GET", f"/deployments/name/{name}/tiny"))

    def run(self, name: str, **parameters: Any) -> str:
        created = self.api(
            "POST", f"/deployments/{self.deployment(name)['id']}/create_flow_run", {"parameters": parameters}
        )
        return str(created["id"])

    def state(self, run: str) -> str:
        return str(self.api("GET", f"/flow_runs/{run}")["state"]["type"])

    def runs(self, name: str) -> list[dict[str, Any]]:
        wanted = {"deployments": {"id": {"any_": [self.deployment(name)["id"]]}}, "limit": 200}
        return list(self.api("POST", "/flow_runs/filter", wanted))

    def lines(self, name: str) -> list[str]:
        path = self.home / name
        return path.read_text().splitlines() if path.exists() else []

    def pids(self) -> dict[str, int | None]:
        return {service.name: service.pid for service in status(self.settings)}

    def set_schedule(self, active: bool) -> None:
        monitor = self.deployment("monitor")
        self.api("PATCH", f"/deployments/{monitor['id']}/schedules/{monitor['schedules'][0]['id']}", {"active": active})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("stack")
    home = root / "100% odd state"
    (root / "flows").mkdir()
    for name, body in FLOWS.items():
        head = "import os\nfrom pathlib import Path\nfrom prefect import flow\n"
        (root / "flows" / f"{name}.py").write_text(head + textwrap.dedent(body))
    (root / "recipe.yaml").write_text(RECIPE)
    blocker = socket.create_server((HOST, USUAL.prefect)) if is_free(USUAL.prefect) else None
    settings = Settings(home=home)
    try:
        said: list[str] = []
        stack = up(settings, lambda service, state, seconds: said.append(f"{service} {state} {seconds:.1f}"))
        print("\n".join(said), f"all ready: {stack.total_s:.1f} s", sep="\n")
        deploy(stack.settings, root / "recipe.yaml", root=root)
        automate(stack.settings, root / "recipe.yaml", "tiny")
        yield World(home, root / "recipe.yaml", stack, USUAL.prefect)
    finally:
        try:
            down(settings)
        finally:
            if blocker:
                blocker.close()
            for process in [*servers(settings), *(p for run in flow_runs(settings).values() for p in run)]:
                process.kill()
