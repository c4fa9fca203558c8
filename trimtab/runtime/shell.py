"""The MLflow "models from code" shell around a Predictor: the last part of the loader file of a release.

It is never imported here: `bundle` writes it behind the door and one runtime, whose names it uses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray

# bundle: drop
from trimtab.runtime.door import InputError

if TYPE_CHECKING:
    from trimtab.runtime.onnxruntime_cpu import Predictor
# bundle: keep


class Release(PythonModel):
    """A release in MLflow: loads the folder logged as artifact "release", answers all outputs by name."""

    def load_context(self, context: Any) -> None:
        """Load the model; the number of threads is the one it was verified with (release.json), else 1."""
        folder = Path(context.artifacts["release"])
        self._predictor = Predictor.load(folder, _threads(folder))

    # The input has no type hint on purpose: MLflow takes one for a schema, does not know Any, and warns.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Outputs, the one that decides first, for a dict of arrays, one array (a single input), or a DataFrame.

        In a DataFrame a column is an input, its cells numbers or (nested) lists; with a single input of shape
        (batch, k) a frame of k number columns is that input, columns in the order given.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, naming the input, what was expected and what was given.
        """
        try:
            return self._predictor.predict(_arrays(self._predictor.spec, model_input))
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def _threads(folder: Path) -> int:
    path = folder / "release.json"
    return int(json.loads(path.read_text(encoding="utf-8"))["threads"]) if path.is_file() else 1


def _arrays(spec: Mapping[str, Any], given: Any) -> dict[str, NDArray[Any]]:
    names = [tensor["name"] for tensor in spec["inputs"]]
    if isinstance(given, pd.DataFrame):
        return _from_frame(spec, given, names)
    if isinstance(given, Mapping):
        return {name: _array(name, values) for name, values in given.items()}
    if len(names) == 1:
        return {names[0]: _array(names[0], given)}
    raise InputError(f"one array for several inputs; give each by name: {names}")


def _from_frame(spec: Mapping[str, Any], frame: pd.DataFrame, names: list[str]) -> dict[str, NDArray[Any]]:
    shape = spec["inputs"][0]["shape"]
    if len(names) == 1 and list(frame.columns) != names and shape[1:] == [frame.shape[1]]:
        return {names[0]: _array(names[0], frame.to_numpy())}
    return {str(name): _array(str(name), frame[name].tolist()) for name in frame.columns}


def _array(name: str, values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"input {name!r}: rows have different shapes ({error})") from None


set_model(Release())
