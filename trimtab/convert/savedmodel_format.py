"""TensorFlow SavedModel: a folder `saved_model`, rebuilt node by node from the ONNX graph in its worker environment.

Of the ways there: litert-torch 0.10 lowers only few operations with a dynamic batch, which a SavedModel must have, and
onnx2tf turns the whole graph to channels last and goes wrong where channels are padded. So each ONNX node becomes the
TensorFlow operation of the same meaning, and only convolution and pooling turn their own input.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from trimtab.convert.job import Job
from trimtab.convert.onnx_format import export_onnx
from trimtab.worker import ENVIRONMENTS, interpreter_of, run_job
from trimtab.worker.job import JOBS

TARGET = "savedmodel-cpu"
LIMIT_S = 1800


def write(job: Job) -> list[str]:
    """Export as ONNX here, rebuild in the worker environment (which is made if it is not there).

    Returns:
        Notes for the reader, those of the ONNX export first.

    Raises:
        UnsupportedError: a layer cannot be deployed.
        ConversionError: it cannot be exported as ONNX, or an operation has no TensorFlow form.
        StateError: the worker environment cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="trimtab-savedmodel-") as folder:
        draft = Path(folder)
        notes = export_onnx(job.module, job.example, draft / "model.onnx")
        done = run_job(
            interpreter_of(ENVIRONMENTS["tensorflow"]), JOBS / "savedmodel_convert.py", draft, LIMIT_S, TARGET
        )
        shutil.move(draft / "saved_model", job.out / "saved_model")
    return [*notes, f"{done['operations']} ONNX operations rebuilt in TensorFlow"]
