"""What is registered needs nothing of ours: an environment of the release's own requirements loads and serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from parity_world import TARGET, stock_server, write_release

from benchmarks.registry.servers import QUIET, mlflow_server
from trimtab import runtime
from trimtab.ledger import Ledger
from trimtab.registry.connection import Registry
from trimtab.registry.promote import promote
from trimtab.registry.register import Submission, register
from trimtab.registry.tracking import Tracking

# It fetches and installs MLflow, ONNX Runtime and what they need: minutes.
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]
NAME, MODEL = "tiny", "vector"
NO_PICKLE = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
ROWS = [[0.1, 0.2, 0.3], [1.0, -2.0, 3.0]]
ASK = f"""
import json, mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/{NAME}@champion")
answer = model.predict({{"x": np.array({ROWS}, np.float32)}})
print(json.dumps(answer["probabilities"].tolist()))
"""


def test_it_loads_and_serves_where_only_its_own_requirements_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in QUIET.items():
        monkeypatch.setenv(key, value)
    (tmp_path / "server").mkdir()
    with mlflow_server(tmp_path / "server") as server:
        release = registered(server, tmp_path)
        expected = runtime.load(TARGET, release, threads=1).predict({"x": np.array(ROWS, np.float32)})
        python = environment_of(server, tmp_path)
        around = {**os.environ, **NO_PICKLE, "MLFLOW_TRACKING_URI": server}
        around.pop("PYTHONPATH", None)

        ours = subprocess.run([python, "-I", "-c", "import trimtab"], capture_output=True, text=True, check=False)
        assert "No module named 'trimtab'" in ours.stderr
        loaded = subprocess.run([python, "-I", "-c", ASK], env=around, capture_output=True, text=True, check=False)
        assert loaded.returncode == 0, loaded.stderr
        np.testing.assert_allclose(json.loads(loaded.stdout), expected["probabilities"], atol=1e-6)

        with stock_server(python, f"models:/{NAME}@champion", server, tmp_path, **NO_PICKLE, PYTHONPATH="") as client:
            served = client.post("/invocations", json={"inputs": {"x": ROWS}})
        assert served.status_code == 200, served.text
        np.testing.assert_allclose(served.json()["predictions"]["probabilities"], expected["probabilities"], atol=1e-6)


def registered(server: str, folder: Path) -> Path:
    """A release, registered and champion."""
    release = write_release(folder / "release", MODEL)
    registry = Registry.connect(server, Ledger(f"sqlite:///{folder / 'ledger.db'}"), folder / "locks", folder / "keys")
    tracking = Tracking(server, folder / "locks")
    run = tracking.start_release_run(tracking.experiment(NAME), "made by a test", "release", {}, {})
    needs = runtime.requirements(TARGET)
    made = Submission(release, runtime.bundle(TARGET), needs, run, "made by a test", {}, {"answer": "pass"})
    promote(registry, NAME, register(registry, made), who="test", why="the first")
    return release


def environment_of(server: str, folder: Path) -> Path:
    """The interpreter of a new environment with what the version's own requirements.txt names, and nothing else."""
    import mlflow

    mlflow.set_tracking_uri(server)
    needs = mlflow.artifacts.download_artifacts(
        f"models:/{NAME}@champion/requirements.txt", dst_path=str(folder / "needs")
    )
    subprocess.run([sys.executable, "-m", "venv", folder / "clean"], check=True)
    python = folder / "clean" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", needs]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python
