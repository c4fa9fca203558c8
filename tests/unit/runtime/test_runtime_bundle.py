"""The loader file of a release runs without this package, and answers the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trimtab import runtime
from trimtab.convert import Code, convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.recipe.schema import Preprocess
from trimtab.runtime.availability import why_unavailable

TARGETS = [target for target in sorted(runtime.TARGETS) if not why_unavailable(target)]
EXAMPLE = {"input": np.random.default_rng(0).random((4, 5), dtype=np.float32)}
SPEC = spec_of(EXAMPLE, 3)

# Runs where trimtab cannot be imported: -I keeps the working directory and PYTHONPATH out, the wall the rest.
CHECK = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "trimtab":
            raise ImportError("trimtab is not installed here")
sys.path[:] = [entry for entry in sys.path if entry != {repository!r}]
sys.meta_path.insert(0, Wall())
import os, numpy as np, pandas as pd, mlflow.pyfunc
from mlflow.exceptions import MlflowException
rows = np.load("rows.npy")
frame = pd.DataFrame(rows, columns=[f"feature {{i}}" for i in range(rows.shape[1])])
cells = pd.DataFrame({{"input": [row.tolist() for row in rows]}})
for target, requirements in {requirements!r}.items():
    os.chdir(target)
    artifacts = {{"release": "release"}}
    mlflow.pyfunc.save_model("model", python_model="loader.py", artifacts=artifacts, pip_requirements=requirements)
    model = mlflow.pyfunc.load_model("model")
    np.save("answers.npy", [model.predict(form)["probabilities"] for form in ({{"input": rows}}, rows, frame, cells)])
    try:
        model.predict({{"wrong": rows}})
    except MlflowException as error:
        print(error.error_code, error.message)
    os.chdir("..")
assert not [name for name in sys.modules if name.startswith("trimtab")]
"""


def test_each_bundle_alone_answers_like_the_predictor_in_every_form_mlflow_hands_it(tmp_path: Path):
    rows = np.random.default_rng(1).random((7, 5), dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    torch.manual_seed(0)
    module = deployed(nn.Linear(5, 3), Preprocess(scale=2))
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "net.py").write_text("from torch import nn\n\ndef build():\n    return nn.Linear(5, 3)\n")
    code = Code("net:build", {}, tmp_path / "user", lambda: nn.Linear(5, 3))
    for target in TARGETS:
        release = tmp_path / target / "release"
        release.mkdir(parents=True)
        convert("c0", target, module, EXAMPLE, SPEC, release, code=code)
        (release / "release.json").write_text(json.dumps({"threads": 1}))
        (tmp_path / target / "loader.py").write_text(runtime.bundle(target))
    script = CHECK.format(
        repository=str(Path(runtime.__file__).parents[2]),
        requirements={target: runtime.requirements(target) for target in TARGETS},
    )
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    refusal = "INVALID_PARAMETER_VALUE wrong inputs (missing: ['input'], unknown: ['wrong'])"
    assert [line.startswith(refusal) for line in done.stdout.splitlines()] == [True] * len(TARGETS)
    for target in TARGETS:
        expected = runtime.load(target, tmp_path / target / "release", threads=1).predict({"input": rows})
        for answer in np.load(tmp_path / target / "answers.npy"):
            np.testing.assert_allclose(answer, expected["probabilities"], atol=1e-6)
        assert not list((tmp_path / target / "model").rglob("*.pkl"))


@pytest.mark.parametrize("target", sorted(runtime.TARGETS))
def test_a_bundle_names_nothing_of_ours_and_compiles(target: str):
    source = runtime.bundle(target)
    compile(source, "loader.py", "exec")
    assert "import trimtab" not in source
    assert "from trimtab" not in source
    assert source.count("from __future__") == 1


def test_requirements_are_pinned_to_published_versions():
    assert runtime.requirements("torchscript-cpu")[0] == f"torch=={torch.__version__.partition('+')[0]}"
    for target in TARGETS:
        names = [requirement.partition("==") for requirement in runtime.requirements(target)]
        assert all(separator and version and "+" not in version for _, separator, version in names)
        assert "numpy" in [name for name, _, _ in names]


def test_bundle_and_requirements_refuse_an_unknown_target():
    with pytest.raises(ValueError, match="unknown target"):
        runtime.bundle("tpu")
    with pytest.raises(ValueError, match="unknown target"):
        runtime.requirements("tpu")
