"""A real MLflow server with two signed releases that answer differently, a proxy before it, and service processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.soak.proxy import Proxy
from deployments.environment import environment
from deployments.stack.ports import Ports
from deployments.stack.services import services
from trimtab import runtime
from trimtab.registry.connection import Registry
from trimtab.registry.package import Facts, Golden, pack
from trimtab.registry.promote import promote, rollback
from trimtab.registry.register import Submission, register
from trimtab.registry.tracking import Tracking
from trimtab.settings import Settings

NAME, TARGET = "soak", "onnxruntime-cpu"
FEATURES, CLASSES, QUESTIONS = 16, 3, 8
READY_S = 120.0
BOUND = 100.0  # the model clips its inputs: one that overflows answers 500, by policy, and that is not what is tested
ASKED = np.random.default_rng(0).normal(size=(QUESTIONS, FEATURES)).astype(np.float32)


def answers(seed: int) -> np.ndarray:
    """What a release answers to `ASKED`, float32 (QUESTIONS, CLASSES)."""
    exponent = np.exp(np.clip(ASKED, -BOUND, BOUND) @ weights(seed))
    return (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)


def weights(seed: int) -> np.ndarray:
    """The weights of a release, float32 (FEATURES, CLASSES)."""
    return np.random.default_rng(seed).normal(size=(FEATURES, CLASSES)).astype(np.float32)


def write_release(folder: Path, seed: int) -> Path:
    """A release folder `folder` of a linear classifier."""
    converted = folder.with_name(f"{folder.name}-converted")
    converted.mkdir(parents=True)
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", FEATURES])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])]
    constants = {"low": np.float32(-BOUND), "high": np.float32(BOUND), "weights": weights(seed)}
    nodes = [
        helper.make_node("Clip", ["input", "low", "high"], ["clipped"]),
        helper.make_node("MatMul", ["clipped", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, converted / "model.onnx")
    spec = {
        "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", FEATURES]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", CLASSES]}],
    }
    (converted / "spec.json").write_text(json.dumps(spec))
    serving = {"serving": {"max_body_mb": 1}}
    facts = Facts(NAME, f"candidate-{seed}", "original", TARGET, "fp32", 1, CLASSES, None, {}, {}, serving)
    pack(converted, folder, facts, Golden({"input": ASKED}, {"probabilities": answers(seed)}))
    return folder


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class World:
    """Everything the soak runs on, below one folder.

    Attributes:
        expected: version → what it answers to `ASKED`.
        proxy: between the services and MLflow; promotions go past it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = Settings(home=folder / "registry", mlflow_tracking_uri=self.url)
        self.proxy = Proxy(self.port)
        self.expected: dict[str, np.ndarray] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[World]:
        """MLflow answers, two releases are registered, the first is the champion."""
        (self.settings.home / "mlflow").mkdir(parents=True)
        mlflow = next(s for s in services(self.settings, Ports(mlflow=self.port)) if s.name == "mlflow")
        around = {**os.environ, **environment(self.settings)}
        log = (self.folder / "mlflow.log").open("wb")
        process = subprocess.Popen(mlflow.command, env=around, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for("MLflow", lambda: httpx.get(f"{self.url}/health", timeout=2).status_code == 200)
            self.registry = Registry.from_settings(self.settings)
            self._register()
            yield self
        finally:
            self.proxy.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
            log.close()

    def promote(self, version: str) -> None:
        """Make a version the champion."""
        promote(self.registry, NAME, int(version), who="soak", why="soak")

    def rollback(self) -> None:
        """Back to the version before."""
        rollback(self.registry, NAME, who="soak", why="soak")

    def _register(self) -> None:
        tracking = Tracking(self.url, self.settings.locks)
        run = tracking.start_release_run(tracking.experiment(NAME), "soak", "soak", {}, {})
        for seed in (1, 2):
            folder = write_release(self.folder / f"release-{seed}", seed)
            source, needs = runtime.bundle(TARGET), runtime.requirements(TARGET)
            submission = Submission(folder, source, needs, run, "soak", {}, {"answer": "pass"})
            self.expected[str(register(self.registry, submission))] = answers(seed)
        self.promote(min(self.expected, key=int))


class Scoring:
    """The scoring service as a process that can be killed and started again at the same address.

    Args:
        home: its state directory; the keys of the world's registry are trusted there.
        clock: file with the seconds its wall clock is off by; None: its clock is left alone.
    """

    def __init__(self, world: World, home: Path, clock: Path | None = None) -> None:
        self.world, self.home, self.clock = world, home, clock
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.journal = home / "journal" / NAME
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "keys").exists():
            (home / "keys").symlink_to(world.settings.signing_keys)

    def start(self) -> None:
        """Start it and wait until it scores."""
        launch = ["benchmarks.soak.clocked", str(self.clock)] if self.clock else []
        command = [sys.executable, "-m", *launch, "deployments.scoring", "--name", NAME, "--home", str(self.home)]
        command += ["--mlflow", self.world.proxy.url, "--port", str(self.port)]
        with (self.home / "service.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        wait_for("the service", lambda: httpx.get(f"{self.url}/ready", timeout=2).status_code == 200)

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def says(self) -> dict[str, object]:
        """/version."""
        found: dict[str, object] = httpx.get(f"{self.url}/version", timeout=10).json()
        return found

    @contextlib.contextmanager
    def running(self) -> Iterator[Scoring]:
        """Started, and gone at the end."""
        self.start()
        try:
            yield self
        finally:
            if self.process is not None and self.process.poll() is None:
                self.kill()


def wait_for(what: str, seen: Callable[[], bool], seconds: float = READY_S) -> None:
    """Poll until `seen()` is true; connections that fail are not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, OSError, ValueError):
            if seen():
                return
        time.sleep(0.05)
    raise SystemExit(f"{what} did not come within {seconds:.0f} s")
