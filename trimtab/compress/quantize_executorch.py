"""INT8 quantization for ExecuTorch: by PT2E with the quantizer of its XNNPACK delegate, from the deployed module.

Weights are 8 bits and symmetric, activations 8 bits and asymmetric. A program cannot be read back, so the module is
captured, quantized, captured again and lowered as in FP32; see
https://docs.pytorch.org/executorch/stable/backends/xnnpack/xnnpack-quantization.html.

As for the other runtimes, pre-processing and softmax stay in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from trimtab.compress.calibration import notes_on_rows
from trimtab.compress.pt2e_rows import facts_of, no_range, outside, rows_of
from trimtab.convert.executorch_format import LARGEST_BATCH, TARGET, captured, failed, lowered
from trimtab.convert.graph import example_tensors
from trimtab.convert.tracing import export_with_batch, quiet
from trimtab.recipe.schema import Quantize
from trimtab.targets import XNNPACK

Array = np.ndarray


def quantize_executorch(
    module: nn.Module,
    calibration: Mapping[str, Array],
    training: Mapping[str, Array],
    settings: Quantize,
    out: Path,
) -> dict[str, Any]:
    """Quantize a deployed module (pre-processing → model → softmax) and write it to `out` as an ExecuTorch program.

    Args:
        module: deployed, in eval mode.
        calibration: name → array (n, ...), raw rows for the ranges of activations, in the order of the specification.
        training: the same of all training rows, to check that the ranges agree.
        settings: the recipe's compress.quantize in mode static; `max_drop` is not read, everything is quantized.
        out: path of the file.

    Returns:
        Facts: {"precision": "int8-xnnpack", "calibration", "calibration_rows", "calibration_rows_requested",
        "weights", "quantized_nodes": number of convolutions and linear layers in INT8, "float_layers": number of the
        others, "weights_quantized": share of all their weights that is in INT8, "notes"}.

    Raises:
        CalibrationError: the rows are too few, not finite or of another range, or the model answers none.
        UnsupportedError: XNNPACK's quantizer has no such calibration, an activation of rows that are answered is not
            finite (a mask that adds minus infinity), or no layer could be quantized.
        ConversionError: torch.export refused the module, or the quantizer or ExecuTorch failed.
    """
    rows, missing, answered = rows_of(module, calibration, training, settings, TARGET)
    used = len(next(iter(rows.values())))
    quantized, done, left = _quantized(captured(module, rows), rows, settings, answered)
    facts = facts_of(done, left, settings, used, TARGET)
    notes, content = lowered(_captured_again(quantized, rows))
    out.write_bytes(content)
    return {"precision": XNNPACK, **facts, "notes": [*missing, *notes_on_rows(used, settings), *notes]}


def _quantized(
    program: ExportedProgram, rows: Mapping[str, Array], settings: Quantize, answered: bool
) -> tuple[fx.GraphModule, list[int], list[int]]:
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack

    from trimtab.worker.jobs import pt2e

    try:
        with quiet():
            config = xnnpack.get_symmetric_quantization_config(is_per_channel=settings.per_channel)
            quantizer = xnnpack.XNNPACKQuantizer().set_global(pt2e.observed_by(config, settings.calibration))
            float_ones = set(outside(program))
            quantizer.set_filter_function(lambda node: node.name not in float_ones)
            tensors = [torch.from_numpy(values) for values in rows.values()]
            graph = pt2e.quantized(program.module(), quantizer, tensors, folded=True)
            done, left = pt2e.layers(graph)
    except pt2e.UnfiniteError as error:
        raise no_range(str(error), answered) from None
    except Exception as error:
        raise failed("XNNPACK's quantizer", error) from None
    return graph, done, left


class _Values(nn.Module):
    """A captured graph, whose inputs have names of their own, with inputs by position alone."""

    def __init__(self, captured: nn.Module) -> None:
        super().__init__()
        self.captured = captured  # not "graph", which is taken in what torch.export makes of it

    def forward(self, *values: Tensor) -> Tensor:
        """The graph's answer."""
        answer: Tensor = self.captured(*values)
        return answer

    def train(self, mode: bool = True) -> Self:
        """A captured graph has no other mode than that it was captured in, and refuses to be asked for one."""
        return self


def _captured_again(quantized: fx.GraphModule, rows: Mapping[str, Array]) -> ExportedProgram:
    values = example_tensors({name: array[:LARGEST_BATCH] for name, array in rows.items()}, LARGEST_BATCH)
    try:
        return export_with_batch(_Values(quantized), values, [{} for _ in values], LARGEST_BATCH)
    except Exception as error:
        raise failed("torch.export", error) from None
