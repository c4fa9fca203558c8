"""What `mlflow deployments` gives and takes, in the service's words: tables, arrays, predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trimtab.client import Answer
from trimtab.errors import DataError

FORMS = frozenset({"instances", "inputs", "dataframe_split", "dataframe_records"})


def as_form(inputs: Any) -> Mapping[str, Any] | None:
    """A table, rows or a JSON form as the service reads them; None for arrays, which go as they are.

    Raises:
        DataError: there is nothing.
    """
    if inputs is None:
        raise DataError("are missing", where="inputs", fix="give a DataFrame, arrays, or one of the JSON forms")
    if hasattr(inputs, "columns") and hasattr(inputs, "to_numpy"):
        return {"dataframe_split": split(inputs)}
    if isinstance(inputs, Mapping):
        named = FORMS & set(inputs)
        is_form = len(named) == 1 and not isinstance(inputs[next(iter(named))], np.ndarray)
        return inputs if is_form else None
    return {"instances": inputs} if isinstance(inputs, Sequence) and not isinstance(inputs, str) else None


def split(df: Any) -> dict[str, Any]:
    """A DataFrame as `dataframe_split`, its cells plain numbers or lists."""
    rows = df.to_numpy(dtype=object).tolist()
    plain = [[cell.tolist() if isinstance(cell, np.ndarray | np.generic) else cell for cell in row] for row in rows]
    return {"columns": [str(column) for column in df.columns], "data": plain}


def as_response(answer: Answer) -> dict[str, Any]:
    """An answer as MLflow's scoring servers write it, with the version and the request's id beside it."""
    predictions = {name: values.tolist() for name, values in answer.outputs.items()}
    return {"predictions": predictions, "version": answer.version, "request_id": answer.request_id}
