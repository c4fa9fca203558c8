"""Where stories are played: one stack of real servers, and for each story a release of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from deployments.environment import PACKAGE_ROOT
from deployments.stories.code import MODULE, RECIPE, Array
from trimtab.settings import Settings
from trimtab.watch import Watch

PATIENCE_S = 900.0  # a busy machine; nothing is promised about time
STEP_S = 0.3


class Failed(AssertionError):
    """A promise was not kept."""


def check(kept: bool, what: str, *seen: Any) -> None:
    """A promise.

    Raises:
        Failed: it was not kept; with what was seen instead.
    """
    if not kept:
        raise Failed(f"{what}; seen: {', '.join(map(str, seen))}" if seen else what)


@dataclass
class Stage:
    """One release of a stack in a state directory.

    Args:
        home: of the stack. project: folder of the user's code.
        in_process: run the monitor in this process, whose environment is the stack's already; quicker than a command.
    """

    home: Path
    project: Path
    name: str
    in_process: bool = False

    @property
    def settings(self) -> Settings:
        """With the addresses as they are now."""
        return Settings.load(self.home)

    @property
    def recipe(self) -> Path:
        """The recipe file."""
        return self.project / self.name / "recipe.yaml"

    @property
    def watch(self) -> Watch:
        """The watch over the release, reading the ledger anew."""
        return Watch(self.recipe, self.settings)

    @property
    def url(self) -> str:
        """Address of the scoring service."""
        return self.settings.scoring[self.name]

    def write(self, **keys: Any) -> None:
        """Write the recipe and, the first time, the code beside it."""
        values = {"name": self.name, "width": 64, "epochs": 6, "quantize": "{calibration_rows: 100}", "mode": "act"}
        values |= {"policy": "{k: 1, n: 1, cooldown_s: 0}", "label_wait_s": 3600, "max_latency_ratio": 20}
        self.recipe.parent.mkdir(parents=True, exist_ok=True)
        (self.recipe.parent / "net.py").write_text(MODULE)
        self.recipe.write_text(RECIPE.format(**{**values, **keys}))

    def begin(self, **keys: Any) -> None:
        """A recipe, its service and flows, a first release."""
        self.write(**keys)
        self.command("up", self.recipe)
        made = self.command("release", self.recipe)
        check(made["version"] == 1, "the first release is version 1", made)

    def command(self, *arguments: str | Path) -> dict[str, Any]:
        """A `trimtab` command as a person gives it; its JSON answer.

        Raises:
            Failed: it ended with an error.
        """
        done = subprocess.run(
            [*self.line(*arguments), "--json"], env=self.environment(), capture_output=True, text=True, check=False
        )
        check(
            done.returncode == 0, f"`trimtab {' '.join(map(str, arguments))}` works", done.stdout, done.stderr[-2000:]
        )
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer

    def line(self, *arguments: str | Path) -> list[str]:
        """The command line of a `trimtab` command."""
        return [sys.executable, "-m", "deployments.cli", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        """What such a command is run in."""
        path = os.pathsep.join(part for part in (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")) if part)
        return {**os.environ, "TRIMTAB_HOME": str(self.home), "PYTHONPATH": path}

    def send(self, features: Array, labels: Array | None = None, each: int = 1) -> list[dict[str, Any]]:
        """Ask for answers; labels after, if they are given.

        Args:
            each: rows a request.

        Returns:
            A row each: request_id, row, predicted, version; also of requests that were refused, with status alone.
        """
        answered: list[dict[str, Any]] = []
        with httpx.Client(timeout=30, trust_env=False) as http:
            for start in range(0, len(features), each):
                part = features[start : start + each].tolist()
                reply = http.post(f"{self.url}/invocations", json={"instances": part})
                if reply.status_code != 200:
                    answered.append({"status": reply.status_code})
                    continue
                scores = np.array(reply.json()["predictions"]["probabilities"])
                for row, predicted in enumerate(scores.argmax(1)):
                    found = {"request_id": reply.headers["X-Request-Id"], "row": row, "predicted": int(predicted)}
                    answered.append({**found, "status": 200, "version": reply.headers["X-Trimtab-Version"]})
        if labels is not None:
            self.label(answered, labels)
        return answered

    def label(self, answered: Sequence[dict[str, Any]], labels: Array) -> None:
        """Post the true classes of answered rows."""
        truth = [
            {"request_id": one["request_id"], "row": one["row"], "label": int(label)}
            for one, label in zip(answered, labels, strict=True)
        ]
        with httpx.Client(timeout=30, trust_env=False) as http:
            http.post(f"{self.url}/labels", json=truth).raise_for_status()

    def monitor(self) -> dict[str, Any]:
        """Judge the next window, as the schedule would."""
        if not self.in_process:
            return self.command("monitor", self.recipe)
        from prefect import tags

        from flows.monitor import monitor

        with tags("trimtab", self.name):
            found: dict[str, Any] = monitor(str(self.recipe), str(self.home))
        return found

    def judged(self, features: Array, labels: Array | None = None) -> dict[str, Any]:
        """Send a window and have it judged."""
        self.send(features, labels)
        found = self.monitor()
        check(found["verdict"] is not None, "a full window is judged", found)
        return found

    def entries(self, stream: str) -> list[dict[str, Any]]:
        """Entries of one of this release's streams in the ledger."""
        return [item.entry for item in self.watch.ledger.read(f"{stream}/{self.name}")]

    def acts(self, act: str) -> list[dict[str, Any]]:
        """Entries of its reactions of one kind, e.g. "started"."""
        return [entry for entry in self.entries("reactions") if entry["act"] == act]

    def finished(self, count: int = 1) -> dict[str, Any]:
        """The count-th reaction's end, waited for."""
        self.wait_for(f"reaction {count} ends", lambda: len(self.acts("finished")) >= count)
        return self.acts("finished")[count - 1]

    def alerts(self, cause: str) -> list[dict[str, Any]]:
        """Alerts of a cause in the ledger."""
        return [entry for entry in self.entries("alerts") if entry.get("cause") == cause]

    def serving(self) -> str | None:
        """The version that answers, by the service itself; None while it does not answer."""
        try:
            found: str | None = httpx.get(f"{self.url}/version", timeout=5, trust_env=False).json()["version"]
        except (httpx.HTTPError, ValueError):
            return None
        return found

    def wait_for(self, what: str, seen: Callable[[], Any]) -> Any:
        """Poll until `seen` gives something true.

        Raises:
            Failed: it does not within `PATIENCE_S`.
        """
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if found := seen():
                return found
            time.sleep(STEP_S)
        log = self.home / "logs" / "worker.log"
        raise Failed(f"not within {PATIENCE_S:.0f} s: {what}; the worker says:\n{log.read_text()[-3000:]}")

    def prefect(self, method: str, path: str, body: Any = None) -> Any:
        """Prefect's API."""
        with httpx.Client(timeout=30, trust_env=False) as http:
            answer = http.request(method, f"{self.settings.prefect_api_url}{path}", json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def accuracy(self, answered: Sequence[dict[str, Any]], labels: Array) -> float:
        """Share of rows answered right, as served."""
        return float(np.mean([one["predicted"] == label for one, label in zip(answered, labels, strict=True)]))
