"""A release folder as an MLflow pyfunc model on disk: one loader file ("models from code"), the release, a signature.

Everything in the model is relative: MLflow writes the absolute path of the loader and of the artifact into MLmodel
(neither is read again), which would tell every reader about the machine it was made on.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.utils.environment as mlflow_environment
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from trimtab.errors import RegistryError
from trimtab.registry.contents import LOADER
from trimtab.registry.package import GOLDEN, Golden, read_golden, read_spec

ARTIFACT = "release"
# MLflow hands a "models from code" model over in a module-level variable.
_ONE_AT_A_TIME = threading.Lock()


def signature_of(spec: dict[str, Any]) -> ModelSignature:
    """Named tensors of a spec.json; every named dimension becomes -1.

    Args:
        spec: {"inputs": [{"name", "dtype", "shape": ["batch", 1, 8, 8]}], "outputs": [...]}.
    """
    return ModelSignature(Schema(_tensors(spec["inputs"])), Schema(_tensors(spec["outputs"])))


def build(
    folder: Path, release: Path, loader_source: str, requirements: Sequence[str], model_id: str, run_id: str
) -> None:
    """Write the pyfunc model into `folder` (must not exist).

    Args:
        release: the checked release folder.
        loader_source: source of the one file that loads and predicts.
        requirements: pinned pip requirements.
        model_id, run_id: the logged model and run it belongs to.
    """
    stage = folder.parent / f"{folder.name}-stage"
    stage.mkdir(parents=True)
    (stage / LOADER).write_text(loader_source)
    shutil.copytree(release, stage / ARTIFACT)  # pyfunc names the folder in the model after this one
    model = Model(model_id=model_id, model_uuid=model_id, run_id=run_id)
    with _ONE_AT_A_TIME, _without_environment_scan(), _without_advice():
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(stage / LOADER),
            artifacts={ARTIFACT: str(stage / ARTIFACT)},
            signature=signature_of(read_spec(release)),
            input_example=_example(read_golden(release)),
            pip_requirements=list(requirements),
            mlflow_model=model,
        )
    flavor = model.flavors["python_function"]
    flavor["model_code_path"] = LOADER
    flavor["artifacts"][ARTIFACT]["uri"] = ARTIFACT
    model.save(str(folder / "MLmodel"))


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Without MLflow's advice to write type hints: the signature is explicit. Other warnings are shown as ever.

    MLflow lays a filter of its own over any other while it gives it, so it is caught instead of filtered.
    """
    with warnings.catch_warnings(record=True) as caught:
        yield
    for one in caught:
        if "type hints" not in str(one.message):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _example(golden: Golden) -> dict[str, np.ndarray[Any, Any]]:
    """The first golden row of every input."""
    if not golden.inputs or any(len(values) == 0 for values in golden.inputs.values()):
        raise RegistryError("has no golden rows", where=GOLDEN, fix="build the release again with some gate rows")
    return {name: values[:1] for name, values in golden.inputs.items()}


def _tensors(entries: Sequence[dict[str, Any]]) -> list[ColSpec | TensorSpec]:
    return [
        TensorSpec(
            np.dtype(entry["dtype"]),
            tuple(size if isinstance(size, int) else -1 for size in entry["shape"]),
            entry["name"],
        )
        for entry in entries
    ]


@contextlib.contextmanager
def _without_environment_scan() -> Iterator[None]:
    """Saving looks at every file of every installed package (2 to 3 s), only to warn of versions that differ.

    MLflow 3.17 has no setting for it. The requirements given are pinned to what is installed, so there is nothing
    to warn of. Under the lock, and put back afterwards.
    """
    scan = mlflow_environment.warn_dependency_requirement_mismatches
    mlflow_environment.warn_dependency_requirement_mismatches = lambda model_requirements: None
    try:
        yield
    finally:
        mlflow_environment.warn_dependency_requirement_mismatches = scan
