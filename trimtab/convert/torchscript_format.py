"""TorchScript by `torch.jit.trace`, or by `torch.jit.script` where a trace would freeze a decision: `model.pt`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from trimtab.convert.graph import refuse_unfit
from trimtab.convert.job import Job
from trimtab.convert.tracing import quiet, scripted, traced
from trimtab.errors import ConversionError
from trimtab.free_axes import FIXED, Axes, axes_of

TARGET = "torchscript-cpu"


def write(job: Job) -> list[str]:
    """Write a deployed module as `model.pt`; see `write_torchscript`."""
    return write_torchscript(job.module, job.example, job.out / "model.pt", axes_of(job.spec))


def write_torchscript(
    module: nn.Module, example: Mapping[str, NDArray[Any]], out: Path, axes: Axes = FIXED
) -> list[str]:
    """Trace (or script), freeze (weights become constants, batch norm is folded into convolutions) and save.

    Args:
        module: deployed module in eval mode.
        example: inputs name → array (n, ...), in the order in which the traced graph takes them.
        out: path of the file.
        axes: of inputs, besides the batch, on whose size the trace must not depend.

    Returns:
        Notes for the reader.

    Raises:
        UnsupportedError: a layer cannot be deployed.
        ConversionError: tracing failed or froze a decision, and the code cannot be scripted either.
    """
    refuse_unfit(module)
    script, note = _captured(module, example, axes)
    with quiet():
        frozen = torch.jit.freeze(script)
        buffer = io.BytesIO()
        torch.jit.save(frozen, buffer)
    _write_without_debug(buffer, out)
    return [note, *_unused(frozen, list(example))]


def _captured(module: nn.Module, example: Mapping[str, NDArray[Any]], axes: Axes) -> tuple[torch.jit.ScriptModule, str]:
    try:
        return traced(module, example, TARGET, axes), "torch.jit.trace, frozen"
    except ConversionError as refusal:
        try:
            script = scripted(module, example, TARGET, axes)
        except ConversionError as error:
            raise ConversionError(f"{refusal.what}; {error.what}", where=refusal.where, fix=refusal.fix) from None
        return script, f"torch.jit.script, frozen, because of a trace it is said: {refusal.what}"


def _write_without_debug(archive: io.BytesIO, out: Path) -> None:
    """Copy an archive without its debug records: each names source files of the machine that made it.

    They are optional; torch 2.13 has no switch to leave them out, so the records are copied one by one.
    """
    archive.seek(0)
    reader = torch._C.PyTorchFileReader(archive)
    writer = torch._C.PyTorchFileWriter(str(out))
    for name in reader.get_all_records():
        # The writer adds these of its own.
        if not name.endswith(".debug_pkl") and name not in ("version", "byteorder", ".data/serialization_id"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()


def _unused(script: torch.jit.ScriptModule, names: list[str]) -> list[str]:
    values = list(script.graph.inputs())[1:]  # the first is the module itself
    return [
        f"input {name!r} does not influence the answer; it stays in the signature"
        for name, value in zip(names, values, strict=True)
        if not list(value.uses())
    ]
