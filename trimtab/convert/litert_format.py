"""LiteRT: one file `model.tflite`, by litert-torch in its worker environment.

litert-torch lowers a torch.export program to StableHLO and that to LiteRT, channels first to the end: no layout is
changed at the door.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from trimtab.convert.graph import example_tensors, refuse_unfit
from trimtab.convert.job import Job
from trimtab.convert.torch_export_format import saved
from trimtab.convert.tracing import exported, first_line, frozen, is_refusal
from trimtab.errors import ConversionError
from trimtab.worker import ENVIRONMENTS, interpreter_of, run_job
from trimtab.worker.job import JOBS

Array = NDArray[Any]
TARGET = "litert-cpu"
# litert-torch 0.10 lowers few operations with a dynamic batch (not even a linear layer), so each size is a signature;
# they share their weights. More rows are answered in several calls.
SIZES = (1, 8, 32)
_SIZES = ", ".join(map(str, SIZES))
LIMIT_S = 1800


def write(job: Job) -> list[str]:
    """The torch module as `model.tflite`."""
    return write_litert(job.module, job.example, job.out / "model.tflite")


def write_graph(job: Job) -> list[str]:
    """A file that a quantizer has written already, as it is."""
    shutil.copyfile(job.graph, job.out / "model.tflite")
    return [f"the INT8 file as litert-torch's quantizer left it, batches of {_SIZES} rows"]


def write_litert(module: nn.Module, example: Mapping[str, Array], out: Path) -> list[str]:
    """Export here, convert in the worker environment (which is made if it is not there).

    Args:
        module: deployed module in eval mode.
        example: inputs name → array (n, ...); input i becomes `args_i` of each signature.
        out: path of the file.

    Returns:
        Notes for the reader.

    Raises:
        UnsupportedError: a layer cannot be deployed.
        ConversionError: torch.export refused the module, or litert-torch cannot lower an operation.
        StateError: the worker environment cannot be made.
    """
    in_worker(captured(module, example), example, out)
    return [f"litert-torch, batches of {_SIZES} rows; integers of 64 bits became 32 bits"]


def captured(module: nn.Module, example: Mapping[str, Array]) -> ExportedProgram:
    """The deployed module by torch.export. Arguments and errors as `write_litert`."""
    refuse_unfit(module)
    try:
        return exported(module, example)
    except Exception as error:
        if is_refusal(error):
            raise frozen(module, example, error, TARGET) from None
        raise ConversionError(
            f"torch.export raised {type(error).__name__}: {first_line(error)[:500]}",
            where=TARGET,
            fix="replace the operation it names, or take the target out of `targets`",
        ) from None


def in_worker(
    program: ExportedProgram, rows: Mapping[str, Array], out: Path, quantize: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Convert a captured module in the worker environment.

    Args:
        rows: inputs name → array (n, ...): an example, or what it is calibrated on.
        out: path of the file; there is none where the status says that nothing could be quantized.
        quantize: what the job's `quantized` is asked; None: FP32.

    Returns:
        The status of the job: nothing for FP32; else {"done", "left"}: number of weights of each layer in INT8, and of
        each of the others; or {"unfinite": name}, an activation that has no range.

    Raises:
        ConversionError: litert-torch cannot quantize or lower an operation.
        StateError: the worker environment cannot be made.
    """
    interpreter = interpreter_of(ENVIRONMENTS["litert"])
    with tempfile.TemporaryDirectory(prefix="trimtab-litert-") as folder:
        draft = Path(folder)
        (draft / "program.pt2").write_bytes(saved(program))
        values = {f"args_{place}": tensor.numpy() for place, tensor in enumerate(example_tensors(rows))}
        np.savez(draft / "example.npz", allow_pickle=False, **values)
        job = {"sizes": SIZES, **({"quantize": dict(quantize)} if quantize else {})}
        (draft / "job.json").write_text(json.dumps(job), encoding="utf-8")
        status = run_job(interpreter, JOBS / "litert_convert.py", draft, LIMIT_S, TARGET)
        if quantize is None or status.get("done"):
            shutil.move(draft / "model.tflite", out)
    return status
