"""torch.export: one archive `model.pt2` with a dynamic batch and nothing pickled in it."""

from __future__ import annotations

import io

import torch

from trimtab.convert.graph import refuse_unfit
from trimtab.convert.job import Job
from trimtab.convert.tracing import exported, first_line, frozen, is_refusal, quiet, unrolled
from trimtab.errors import ConversionError
from trimtab.free_axes import axes_of
from trimtab.runtime.pt2_archive import check_archive

_KEPT = ("val", "tensor_meta")  # of a node's metadata: shapes; the rest names files of this machine


def write(job: Job) -> list[str]:
    """Export a deployed module and save it without example rows, stack traces and guards.

    Returns:
        Notes for the reader.

    Raises:
        UnsupportedError: a layer cannot be deployed.
        ConversionError: torch.export cannot capture it, the code decides by values or by a size that is free, or the
            graph needs more than ATen operations.
    """
    refuse_unfit(job.module)
    axes = axes_of(job.spec)
    try:
        program = exported(job.module, job.example, axes=axes)
    except Exception as error:
        if layers := unrolled(job.module, error, axes):
            raise _failed(
                job, f"torch.export writes {', '.join(layers)} out step by step, so the number of steps cannot be free"
            ) from None
        if is_refusal(error):
            raise frozen(job.module, job.example, error, job.target, axes) from None
        raise _failed(job, f"torch.export raised {type(error).__name__}: {first_line(error)[:500]}") from None
    archive = saved(program)
    try:
        check_archive(archive)
    except ValueError as error:
        raise _failed(job, str(error)) from None
    (job.out / "model.pt2").write_bytes(archive)
    return [f"torch.export, {len(program.graph.nodes)} nodes", *_unused(program, list(job.example))]


def saved(program: torch.export.ExportedProgram) -> bytes:
    """The bytes of a .pt2 archive in which nothing is pickled and nothing names a file of this machine."""
    # Written by default: the example (a user's rows, pickled), and with each node the stack it came from.
    program._example_inputs = None
    program._guards_code = []  # what they check, the door of the predictor checks
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta = {key: value for key, value in node.meta.items() if key in _KEPT}
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _unused(program: torch.export.ExportedProgram, names: list[str]) -> list[str]:
    values = program.graph_signature.user_inputs
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    return [
        f"input {name!r} does not influence the answer; it stays in the signature"
        for name, value in zip(names, values, strict=True)
        if value not in used
    ]


def _failed(job: Job, what: str) -> ConversionError:
    return ConversionError(what, where=job.target, fix="replace the operation it names, or take the target out")
