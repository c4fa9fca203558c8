"""What a flow imports before it runs: `trimtab up RECIPE` imports every flow, and a worker one for each run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FLOWS = sorted(f"flows.{path.stem}" for path in (Path(__file__).parents[3] / "flows").glob("[a-z]*.py"))
HEAVY = ("evidently", "lightning", "matplotlib", "mlflow", "onnx", "onnxruntime", "openvino", "optuna", "torch")


def test_the_flows_can_be_deployed_without_what_they_work_with() -> None:
    code = f"import sys, {', '.join(FLOWS)}; print(*sorted(sys.modules.keys() & set({HEAVY})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert len(FLOWS) >= 8
    assert done.stdout.split() == []
