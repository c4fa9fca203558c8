"""INT8 quantization for LiteRT: by PT2E with litert-torch's quantizer, in its worker environment.

Weights are 8 bits and symmetric, activations 8 bits and asymmetric, with the fixed ranges that LiteRT asks of some
operations. The module is captured here, calibrated and converted there; the calibration rows go as a file. Ranges are
found once, so that the sizes of the file answer a row alike.

As for the other runtimes, pre-processing and softmax stay in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from trimtab.compress.calibration import notes_on_rows
from trimtab.compress.pt2e_rows import facts_of, no_range, outside, rows_of
from trimtab.convert.litert_format import TARGET, captured, in_worker
from trimtab.recipe.schema import Quantize
from trimtab.targets import LITERT

Array = np.ndarray


def quantize_litert(
    module: nn.Module,
    calibration: Mapping[str, Array],
    training: Mapping[str, Array],
    settings: Quantize,
    out: Path,
) -> dict[str, Any]:
    """Quantize a deployed module (pre-processing → model → softmax) and write it to `out` as a .tflite file.

    Args:
        module: deployed, in eval mode.
        calibration: name → array (n, ...), raw rows for the ranges of activations, in the order of the specification.
        training: the same of all training rows, to check that the ranges agree.
        settings: the recipe's compress.quantize in mode static; `max_drop` is not read, everything is quantized.
        out: path of the file.

    Returns:
        Facts as of `quantize_executorch`, of precision "int8-litert".

    Raises:
        CalibrationError: the rows are too few, not finite or of another range, or the model answers none.
        UnsupportedError: the quantizer has no such calibration, an activation of rows that are answered is not finite
            (a mask that adds minus infinity), or no layer could be quantized.
        ConversionError: torch.export refused the module, or the quantizer or litert-torch failed.
        StateError: the worker environment cannot be made.
    """
    rows, missing, answered = rows_of(module, calibration, training, settings, TARGET)
    used = len(next(iter(rows.values())))
    program = captured(module, rows)
    asked = {
        "calibration": settings.calibration,
        "per_channel": settings.per_channel,
        "outside": outside(program),
    }
    status = in_worker(program, rows, out, asked)
    if "unfinite" in status:
        raise no_range(status["unfinite"], answered)
    facts = facts_of(status["done"], status["left"], settings, used, TARGET)
    return {"precision": LITERT, **facts, "notes": [*missing, *notes_on_rows(used, settings)]}
