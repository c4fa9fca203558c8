"""ExecuTorch: one file `model.pte`, its convolutions and linear layers delegated to XNNPACK."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from trimtab.convert.graph import refuse_unfit
from trimtab.convert.job import Job
from trimtab.convert.tracing import exported, first_line, frozen, is_refusal, quiet
from trimtab.errors import ConversionError

Array = NDArray[Any]
TARGET = "executorch-cpu"
# Memory for activations is planned for this many rows and held from loading on; beyond it the predictor makes several
# calls, which then cost no more a row.
LARGEST_BATCH = 64


def write(job: Job) -> list[str]:
    """The torch module as `model.pte`."""
    return write_executorch(job.module, job.example, job.out / "model.pte")


def write_graph(job: Job) -> list[str]:
    """A program that a quantizer has written already, as it is."""
    shutil.copyfile(job.graph, job.out / "model.pte")
    return ["the INT8 program as XNNPACK's quantizer left it"]


def write_executorch(module: nn.Module, example: Mapping[str, Array], out: Path) -> list[str]:
    """Export with a batch of 1 to 64 rows, delegate to XNNPACK what it takes, and save.

    Args:
        module: deployed module in eval mode.
        example: inputs name → array (n, ...), in the order in which the program takes them.
        out: path of the file.

    Returns:
        Notes for the reader: how many operations XNNPACK does not compute, by name.

    Raises:
        UnsupportedError: a layer cannot be deployed.
        ConversionError: torch.export refused the module, or ExecuTorch cannot lower an operation.
    """
    notes, content = lowered(captured(module, example))
    out.write_bytes(content)
    return notes


def captured(module: nn.Module, example: Mapping[str, Array]) -> ExportedProgram:
    """The deployed module by torch.export, for 1 to 64 rows. Arguments and errors as `write_executorch`."""
    refuse_unfit(module)
    example = {name: values[:LARGEST_BATCH] for name, values in example.items()}
    try:
        return exported(module, example, largest=LARGEST_BATCH)
    except Exception as error:
        if is_refusal(error):
            raise frozen(module, example, error, TARGET) from None
        raise failed("torch.export", error) from None


def lowered(program: ExportedProgram) -> tuple[list[str], bytes]:
    """Delegate to XNNPACK what it takes of a captured program.

    Returns:
        Notes for the reader, and what is in the file.

    Raises:
        ConversionError: ExecuTorch cannot lower an operation.
    """
    try:
        with quiet():
            left, content = _lowered(program)
    except Exception as error:
        raise failed("ExecuTorch", error) from None
    return ["ExecuTorch with XNNPACK, batches of up to 64 rows", *left], content


def _lowered(program: ExportedProgram) -> tuple[list[str], bytes]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    graph = edge.exported_program().graph_module.graph
    names = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    left = sorted(name.removeprefix("aten.") for name in names if name.startswith("aten.") and "sym_size" not in name)
    note = [f"computed by ExecuTorch's portable operators, not XNNPACK: {', '.join(left)}"] if left else []
    return note, bytes(edge.to_executorch().buffer)


def failed(who: str, error: Exception) -> ConversionError:
    """The error for what a library raised."""
    return ConversionError(
        f"{who} raised {type(error).__name__}: {first_line(error)[:500]}",
        where=TARGET,
        fix="replace the operation it names, or take the target out of `targets`",
    )
