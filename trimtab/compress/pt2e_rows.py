"""What the PT2E quantizers of ExecuTorch and LiteRT have in common on our side: rows, what stays in float, facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from trimtab.compress.calibration import BATCH, NAN_FIX, answered_rows, calibration_rows
from trimtab.errors import CalibrationError, TrimtabError, UnsupportedError
from trimtab.recipe.schema import Quantize
from trimtab.runtime.eager import call, several

Array = np.ndarray
INSIDE = "module.model"  # path of the user's module in what is captured
CALIBRATIONS = ("minmax", "mse")  # that a PT2E quantizer has, as the observers of `worker.jobs.pt2e`


def rows_of(
    module: nn.Module, calibration: Mapping[str, Array], training: Mapping[str, Array], settings: Quantize, target: str
) -> tuple[dict[str, Array], list[str], bool]:
    """The rows to calibrate on, what to say of them, and whether the module answers them with numbers.

    Where it answers none, all are used: the first activation that is not finite says where it begins.

    Args:
        module: deployed, in eval mode. The others: as of `calibration.calibration_rows`.

    Raises:
        UnsupportedError: the quantizers have no such calibration.
        CalibrationError: the rows are too few, not finite or of another range.
    """
    if settings.calibration not in CALIBRATIONS:
        raise UnsupportedError(
            f"its quantizer has no calibration {settings.calibration!r}",
            where=f"{target}: compress.quantize.calibration",
            fix=f"use {' or '.join(CALIBRATIONS)}, or take {target} out of `targets`",
        )
    rows = calibration_rows(calibration, training, settings)
    with torch.inference_mode():
        answers = torch.cat([several(call(module, part))[0] for part in _batches(rows)])
    good = np.isfinite(answers.numpy()).all(axis=1)
    if not good.any():
        return rows, [], False
    rows, notes = answered_rows(rows, good, settings)
    return rows, notes, True


def _batches(rows: Mapping[str, Array]) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(next(iter(rows.values()))), BATCH):
        yield {name: torch.from_numpy(values[start : start + BATCH]) for name, values in rows.items()}


def outside(program: ExportedProgram) -> list[str]:
    """Names of the operations of a captured deployed module that are not in the user's: pre-processing and softmax."""
    return [
        node.name
        for node in program.graph.nodes
        if node.op == "call_function"
        and not any(str(path).endswith(INSIDE) for path, _ in node.meta.get("nn_module_stack", {}).values())
    ]


def no_range(place: str, answered: bool) -> TrimtabError:
    """The error for an activation without a range, of rows that are answered with numbers or of rows that are not."""
    what, where = "NaN or infinite for calibration rows: it has no finite range", f"tensor {place}"
    if not answered:
        return CalibrationError(what, where=where, fix=NAN_FIX)
    return UnsupportedError(what, where=where, fix="mask with torch.where or masked_fill, which stay in float")


def facts_of(done: list[int], left: list[int], settings: Quantize, used: int, target: str) -> dict[str, Any]:
    """Facts of a candidate, without its precision and notes.

    Args:
        done, left: number of weights of each convolution and linear layer in INT8, and of each of the others.
        used: number of rows.

    Raises:
        UnsupportedError: no layer is in INT8.
    """
    if not done:
        raise UnsupportedError(
            f"0 of {sum(left)} weights quantized: the quantizer left each of {len(left)} layers in float",
            where=target,
            fix="set compress.quantize to null, or replace the layers by convolutions and linear ones",
        )
    return {
        "calibration": settings.calibration,
        "calibration_rows": used,
        "calibration_rows_requested": settings.calibration_rows,
        "weights": "int8, " + ("per channel" if settings.per_channel else "per tensor"),
        "quantized_nodes": len(done),
        "float_layers": len(left),
        "weights_quantized": sum(done) / (sum(done) + sum(left)),
    }
