"""A user's project and the real servers, in a state directory of their own; `trimtab` is run as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from forked import Forks

from trimtab.settings import Settings

CODE = """
import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

SEEDS = {"train": 1, "validation": 2, "gate": 3, "traffic": 4}
ROWS = {"train": 300, "validation": 200, "gate": 300, "traffic": 120}


def rows(split):
    random = np.random.default_rng(SEEDS[split])
    labels = random.integers(0, 3, ROWS[split])
    centres = np.array([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])
    return (centres[labels] + random.normal(0, 0.5, (len(labels), 4))).astype(np.float32), labels


def split(name):
    features, labels = rows(name)
    return TensorDataset(torch.from_numpy(features), torch.from_numpy(labels))


def build(width=64):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))
"""

RECIPE = """
name: {name}
model: {{callable: net:build, kwargs: {{width: {width}}}}}
data: net:split
train: {{epochs: 6, patience: 6, threads: 1, seed: {seed}}}
compress: {compress}
targets: [onnxruntime-cpu]
measure: {{batch_sizes: [1], rounds: 3, calls: 5}}
budget: {{max_drop: 0.1, min_speedup: {min_speedup}, min_size_ratio: 0.1, max_disagreement: 0.1}}
serving: {{backend: {backend}{trial}}}
monitoring:
  schedule: {{cron: "0 0 1 1 *", timezone: UTC}}  # not while a test asks for verdicts itself
  window: {{rows: 120, min_labels: 100}}
  report: always
  policy: {{k: 1, n: 1, cooldown_s: 0}}
  retraining: {{weight: 2}}
"""

TRIAL = ", shadow: {percent: 100}, promotion: {min_requests: 30, min_agreement: 0.5}"
# INT8 alone: no search, nothing is trained but the original.
INT8 = "{search: null, shorten: null, prune: null, distil: null}"
SEARCH = """
  search: {trials: 5, shapes: 3, reference: control}
  shorten: null
  prune: {norms: [l2], ratios: [0.5], round_to: 8}
  distil: {epochs: 7, lr: 0.01, threads: 1}
"""


@dataclass(frozen=True)
class Released:
    """A first release: its summary, what a second one at the same time was told, and the versions that answered."""

    summary: dict[str, Any]
    refused: dict[str, Any]
    answered: list[str]


@dataclass
class World:
    """The servers' state directory, a user's project folder, and a process that has imported what commands import."""

    home: Path
    project: Path
    forks: Forks

    @property
    def settings(self) -> Settings:
        return Settings.load(self.home)

    def recipe(
        self,
        name: str,
        seed: int = 0,
        min_speedup: float = 0.01,
        backend: str = "trimtab",
        compress: str = INT8,
        width: int = 64,
        trial: str = "",
    ) -> Path:
        """A recipe in a folder of its own, with the code beside it."""
        folder = self.project / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "net.py").write_text(CODE)
        path = folder / "recipe.yaml"
        values = {"name": name, "seed": seed, "min_speedup": min_speedup, "backend": backend}
        path.write_text(RECIPE.format(**values, compress=compress, width=width, trial=trial))
        return path

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "deployments.cli", *map(str, arguments)]

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "TRIMTAB_HOME": str(self.home), "PYTHONPATH": str(Path(__file__).parents[2]), **more}

    def trimtab(self, *arguments: str | Path, expect: int = 0) -> dict[str, Any]:
        """Run a command with --json from another directory and read its answer; its imports are done already."""
        return self._read(self.forks.run("deployments.cli", *map(str, arguments), "--json", cwd=self.project), expect)

    def cold(self, *arguments: str | Path) -> dict[str, Any]:
        """The same in a process that imports everything itself."""
        line = self.command(*arguments, "--json")
        done = subprocess.run(
            line, env=self.environment(), cwd=self.project, capture_output=True, text=True, timeout=280, check=False
        )
        return self._read(done)

    def _read(self, done: subprocess.CompletedProcess[str], expect: int = 0) -> dict[str, Any]:
        assert done.returncode == expect, f"exit {done.returncode}, expected {expect}\n{done.stdout}\n{done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer

    def start(self, *arguments: str | Path, **more: str) -> subprocess.Popen[str]:
        """Start a command; its standard error is to be read line by line, its answer, which is short, after."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment(**more),
            cwd=self.project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def send(self, name: str, shift: float = 0.0, label: bool = True) -> list[str]:
        """120 rows one by one, labels after; the versions that answered."""
        space: dict[str, Any] = {}
        exec(CODE, space)  # the project's own data
        features, labels = space["rows"]("traffic")
        url = self.settings.scoring[name]
        # A rotation of the axes: the inputs drift and the classes are no longer where they were.
        sent = np.roll(features, 1, axis=1) + shift if shift else features
        versions, truth = [], []
        with httpx.Client(timeout=30) as client:
            for row, values in enumerate(sent):
                answer = client.post(f"{url}/invocations", json={"instances": [values.tolist()]})
                assert answer.status_code == 200, answer.text
                versions.append(answer.headers["X-Trimtab-Version"])
                truth.append({"request_id": answer.headers["X-Request-Id"], "row": 0, "label": int(labels[row])})
            if label:
                client.post(f"{url}/labels", json=truth).raise_for_status()
        return versions
