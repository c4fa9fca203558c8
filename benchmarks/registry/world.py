"""A release name on a server: a toy model, the calls on it, and processes that die in the middle of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.registry.servers import QUIET
from trimtab.ledger import Ledger
from trimtab.registry import failpoint, follow, versions
from trimtab.registry.connection import RELEASE_KEY, Registry
from trimtab.registry.package import Facts, Golden, pack, release_key
from trimtab.registry.promote import champion, promote, reconcile, rollback
from trimtab.registry.promotions import Promotion, read_log
from trimtab.registry.register import Submission, register
from trimtab.registry.retention import delete
from trimtab.registry.staging import stage
from trimtab.registry.tracking import Tracking

LOADER = """
import json, pathlib
import mlflow
import numpy as np

MARK = {mark!r}

class Linear(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        folder = pathlib.Path(context.artifacts["release"])
        self.weights = np.load(folder / "weights.npy", allow_pickle=False)
        self.release = json.loads((folder / "release.json").read_text())

    def predict(self, context, model_input, params=None):
        return {{"probabilities": np.asarray(model_input["input"]) @ self.weights + MARK}}

mlflow.models.set_model(Linear())
"""


class World:
    """A registry on the server with its own ledger and locks, one experiment and one run.

    Args:
        ledger: SQLAlchemy URL; without it SQLite in `folder`.
        ballast: bytes of random numbers in each release, so that it is as large as a real one.
    """

    def __init__(self, server: str, folder: Path, name: str, ledger: str | None = None, ballast: int = 0) -> None:
        self.server, self.folder, self.name, self.ballast = server, folder, name, ballast
        self.ledger_url = ledger or f"sqlite:///{folder / 'ledger.db'}"
        self.registry = Registry.connect(server, Ledger(self.ledger_url), folder / "locks", folder / "keys")
        self.tracking = Tracking(server, folder / "locks")

    @cached_property
    def experiment(self) -> str:
        """Of this name."""
        return self.tracking.experiment(self.name)

    @cached_property
    def run(self) -> str:
        """The run that all releases come from."""
        return self.tracking.start_release_run(self.experiment, "release-1", "release", {}, {})

    def submission(self, mark: float = 0.0, *, answer: str = "pass") -> Submission:
        """A release of a linear model; another mark makes another release."""
        mark = float(mark)
        folder = self.folder / f"release-{mark}"
        if not folder.exists():
            pack_release(self.folder / f"converted-{mark}", folder, self.name, mark, self.ballast)
        return Submission(
            folder=folder,
            loader_source=LOADER.format(mark=mark),
            requirements=["numpy", "mlflow-skinny"],
            run_id=self.run,
            description="# A release\n\n| speed-up | 2.0 |",
            tags={"speedup": "2.0"},
            decision={"answer": answer, "mark": mark},
        )

    def release(self, mark: float) -> int:
        """Register it."""
        return register(self.registry, self.submission(mark))

    def made_by_hand(self) -> int:
        """A version that somebody registered in MLflow without us."""
        client = self.registry.client
        model = client.create_logged_model(self.experiment, "mine", self.run)
        client.finalize_logged_model(model.model_id, "READY")
        source = f"models:/{model.model_id}"
        return int(client.create_model_version(self.name, source, self.run, model_id=model.model_id).version)

    def versions(self, mark: float) -> list[int]:
        """Versions in MLflow of this release."""
        key = release_key(self.submission(mark).folder)
        found = versions.every(self.registry.client, self.name)
        return [int(version.version) for version in found if version.tags.get(RELEASE_KEY) == key]

    def models(self, mark: float) -> list[str]:
        """Status of each logged model of this release."""
        key = release_key(self.submission(mark).folder)
        found = versions.logged_models(self.registry.client, self.experiment, self.name, key)
        return [str(model.status) for model in found]

    def stages(self, stage: str) -> list[int]:
        """Versions in a stage."""
        found = versions.every(self.registry.client, self.name)
        return [int(version.version) for version in found if version.current_stage == stage]

    def promote(self, version: int) -> Promotion:
        """Let it serve."""
        return promote(self.registry, self.name, version, who="test", why="it passed", evidence={"report": "r"})

    def back_from(self, version: int) -> Promotion:
        """Roll back from it."""
        return rollback(self.registry, self.name, who="test", why="errors", bad_version=version)

    def disagreements(self) -> list[str]:
        """Where alias, stages, ledger and the light reader do not say the same of what serves."""
        found = champion(self.registry, self.name)
        serving = found.version if found else None
        log = read_log(self.registry.ledger, self.name)
        said = {
            "Production": (self.stages("Production"), [] if serving is None else [serving]),
            "intent left": (log.pending, None),
            "ledger's champion": (log.champion, serving),
            "ledger's previous": (log.previous, found.previous if found else None),
            "light reader": (follow.current_champion(self.server, self.name), serving),
        }
        self.registry.ledger.check(f"promotions/{self.name}")
        return [f"{what}: {one}, not {other}" for what, (one, other) in said.items() if one != other]

    def serves_consistently(self) -> int | None:
        """The champion, after checking that everything agrees on it."""
        assert self.disagreements() == []
        found = champion(self.registry, self.name)
        return found.version if found else None


def pack_release(converted: Path, folder: Path, name: str, mark: float, ballast: int = 0, **extra: Any) -> None:
    """A release folder of a linear model; `extra` are further facts of its release.json."""
    spec = {
        "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", 3]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 2]}],
    }
    converted.mkdir(parents=True, exist_ok=True)
    (converted / "spec.json").write_text(json.dumps(spec))
    np.save(converted / "weights.npy", np.ones((3, 2), np.float32))
    (converted / "häßlich č.txt").write_text("a name that is not ASCII")
    if ballast:
        values = np.random.default_rng(int(mark * 100) % 2**32).standard_normal(ballast // 4, np.float32)
        (converted / "ballast.bin").write_bytes(values.tobytes())
    facts = Facts(name, "c0", "int8", "onnxruntime-cpu", "int8", 1, 2, None, {"mark": mark}, {}, extra)
    rows = np.ones((4, 3), np.float32)
    pack(converted, folder, facts, Golden({"input": rows}, {"probabilities": rows @ np.ones((3, 2), np.float32)}))


# Processes that die: from a fork server that has MLflow loaded, so that each costs little.

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mlflow.pyfunc", "trimtab.registry.register", "trimtab.registry.promote"])


def _act(arguments: dict[str, Any], action: str, argument: Any, point: str | None) -> None:
    os.environ.update(QUIET)
    world = World(**arguments)
    if point:
        os.environ[failpoint.VARIABLE] = point
    if action == "register":
        world.release(argument)
    elif action == "promote":
        world.promote(argument)
    elif action == "delete":
        delete(world.registry, world.name, argument, who="test", why="old")
    elif action == "rollback":
        world.back_from(argument)
    elif action.startswith("to "):
        stage(world.registry, world.name, argument, action.removeprefix("to "), who="test", why="looked at")
    elif action == "reconcile":
        reconcile(world.registry, world.name)
    else:
        raise ValueError(f"no action {action!r}")


def in_process(world: World, action: str, argument: Any, point: str | None = None) -> Any:
    """A started process that makes one call; it kills itself at `point`."""
    arguments = {
        "server": world.server,
        "folder": world.folder,
        "name": world.name,
        "ledger": world.ledger_url,
        "ballast": world.ballast,
    }
    process = PROCESSES.Process(target=_act, args=(arguments, action, argument, point))
    process.start()
    return process


def killed_at(world: World, action: str, argument: Any, point: str) -> None:
    """Make the call in a process that dies at this point; an error if it does not get there."""
    process = in_process(world, action, argument, point)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, f"{point} was not reached (exit code {process.exitcode})"


def points_of(call: Callable[[], object]) -> list[str]:
    """Every failpoint the call reaches, in order."""
    reached: list[str] = []
    with mock.patch.object(failpoint, "reach", reached.append):
        call()
    return list(dict.fromkeys(reached))
