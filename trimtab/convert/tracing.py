"""Tracing a module safely: one at a time, without the exporters' noise, and refusing graphs that froze a decision.

`torch.jit.trace` writes down the operations of one run. A Python `if` on a value, an `.item()` or a loop over rows is
not in the graph: the branch taken for the example stays for ever. It only warns. `torch.export` raises instead, so it
is the judge of a warning: an `if` on a fixed size (channels, height) is harmless and passes there.
"""

from __future__ import annotations

import contextlib
import linecache
import logging
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import _trace as _trace_module

from trimtab.convert.graph import Deployed, Positional, example_tensors
from trimtab.errors import ConversionError
from trimtab.free_axes import FIXED, Axes, by_name

Array = NDArray[Any]
_FOREIGN = tuple(str(Path(torch.__file__).parents[1] / name) for name in ("torch", "onnx", "onnxscript", "openvino"))
_LAYERS = str(Path(nn.__file__).parent)
_OWN = str(Path(__file__).parents[1])
_FREEZES = {"aten._local_scalar_dense.default", "aten.item.default"}
_NOISY = ("torch", "torch.export", "torch.fx", "torch.onnx", "onnxscript", "onnx_ir", "py.warnings")
_LOCK = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """One exporter at a time in this process, its warnings collected instead of shown.

    torch 2.13 keeps tracing state in globals, and `warnings.catch_warnings` is not safe with threads: hence the lock.
    Its exporters warn about their own deprecations (torch.jit.trace, pytree LeafSpec) and about torchvision not being
    installed, and log the whole graph when they refuse; what matters to a user is raised by the callers of this.
    """
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loggers = [logging.getLogger(name) for name in _NOISY]
        loggers += [
            logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith("torch.")
        ]
        were = [(logger, logger.disabled) for logger in loggers]
        for logger in loggers:
            logger.disabled = True  # not setLevel, which empties the caches of every logger of the process
        try:
            yield caught
        finally:
            for logger, disabled in were:
                logger.disabled = disabled


def exported(
    module: nn.Module, example: Mapping[str, Array], largest: int | None = None, axes: Axes = FIXED
) -> torch.export.ExportedProgram:
    """The module captured by `torch.export` with a dynamic batch of at most `largest` rows, common to all inputs.

    Free axes keep their names and bounds; those of one name are one size.

    With `largest` the example is repeated to that many rows: torch 2.13's convolution asks whether there are fewer than
    16, and what is decomposed later keeps the answer for the example as the bound.

    Raises whatever torch.export raises; see `is_refusal`.
    """
    values = example_tensors(example, largest or 2, axes)
    sizes = {name: torch.export.Dim(name, min=axis.low, max=axis.high) for name, axis in by_name(axes).items()}
    free = [{place: sizes[axis.name] for place, axis in axes.get(name, {}).items()} for name in example]
    return export_with_batch(Positional(module, list(example)).eval(), values, free, largest)


def export_with_batch(
    module: nn.Module, values: tuple[torch.Tensor, ...], free: list[dict[int, Any]], largest: int | None
) -> torch.export.ExportedProgram:
    """A module that takes its inputs as `*values`, captured with a batch of at most `largest` rows common to all.

    Args:
        free: of each input, place of an axis besides the batch → its `torch.export.Dim`.
    """
    batch = torch.export.Dim("batch", max=largest)
    with quiet():
        # On a refusal it prints the graph so far to stderr; only its own print is silenced, not other threads'.
        _trace_module.print = lambda *_, **__: None  # type: ignore[attr-defined]
        try:
            return torch.export.export(
                module,
                values,
                dynamic_shapes={"values": tuple({0: batch, **places} for places in free)},
                strict=False,
            )
        finally:
            del _trace_module.print  # type: ignore[attr-defined]


def is_refusal(error: BaseException) -> bool:
    """Whether torch.export says that the model's code depends on values or on the batch size.

    Other errors mean only that this exporter does not know an operation.
    """
    return _is_constraint(error) or type(error).__name__ == "GuardOnDataDependentSymNode"


def _is_constraint(error: BaseException) -> bool:
    return getattr(getattr(error, "error_type", None), "name", "") == "CONSTRAINT_VIOLATION"


def unrolled(module: nn.Module, error: BaseException, axes: Axes) -> list[str]:
    """Recurrent layers because of which torch.export may have refused a free axis; none if it refused something else.

    torch 2.13 writes such a layer out step by step, and with it the number of steps; TorchScript and ONNX have one
    operation for it.
    """
    if not axes or not _is_constraint(error):
        return []
    return [name for name, layer in module.named_modules() if isinstance(layer, nn.RNNBase)]


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind if it has none: exporters write pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def frozen(
    module: nn.Module, example: Mapping[str, Array], error: BaseException, target: str, axes: Axes = FIXED
) -> ConversionError:
    """The error for a refusal, with the source lines it comes from."""
    # Sizes are judged after tracing, outside the user's code: then torch.jit.trace knows the lines.
    constrained = _is_constraint(error)
    lines = _lines_of_warnings(_trace(module, example, axes)[1]) if constrained else _lines_of_error(error)
    return _frozen_error(lines, _sizes(axes) if constrained else "values", _detail(error), target)


def traced(module: nn.Module, example: Mapping[str, Array], target: str, axes: Axes = FIXED) -> torch.jit.ScriptModule:
    """The module traced on the example, inputs by position.

    Raises:
        ConversionError: tracing failed, or the trace froze a decision that depends on values, on the batch size or on
            the size of a free axis; the message has the source lines.
    """
    script, caught = _trace(module, example, axes)
    if _lines_of_warnings(caught):
        _judge(module, example, caught, target, axes)
    return script


def scripted(
    module: nn.Module, example: Mapping[str, Array], target: str, axes: Axes = FIXED
) -> torch.jit.ScriptModule:
    """The module with the user's part compiled by `torch.jit.script`, which keeps its `if`s and loops.

    Raises:
        ConversionError: the code is beyond TorchScript's subset of Python.
    """
    if not isinstance(module, Deployed):
        raise ConversionError("only a deployed model can be scripted", where=target)
    try:
        with quiet():
            compiled = torch.jit.script(module.model)
    except Exception as error:
        raise ConversionError(
            f"torch.jit.script raised {type(error).__name__}: {first_line(error)[:300]}",
            where=target,
            fix="write forward in TorchScript's subset of Python, or with tensor operations alone",
        ) from None
    return traced(type(module)(compiled, module.preprocess, module.kept).eval(), example, target, axes)


def _judge(
    module: nn.Module, example: Mapping[str, Array], caught: list[warnings.WarningMessage], target: str, axes: Axes
) -> None:
    suspects = _lines_of_warnings(caught)
    try:
        program = exported(module, example, axes=axes)
    except Exception as error:
        # torch's layers compare sizes in Python, to check them. Beside a recurrent one torch.export cannot judge the
        # axis: then nothing of the user's own may be left to judge, and the answers at other sizes must tell.
        own = _lines_of_warnings([one for one in caught if not one.filename.startswith(_LAYERS)])
        if not own and unrolled(module, error, axes):
            _judge(module, example, caught, target, FIXED)
            return
        raise _frozen_error(own or suspects, f"values or {_sizes(axes)}", _detail(error), target) from None
    if any(str(node.target) in _FREEZES for node in program.graph.nodes):
        raise _frozen_error(suspects, "values", "a tensor's value becomes a Python number", target)


def _sizes(axes: Axes) -> str:
    return " or ".join(["the batch size", *(f"the size of {name!r}" for name in by_name(axes))])


def _detail(error: BaseException) -> str:
    """What a refusal says: of a size that came out fixed, the first reason, which stands below torch's headline."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip().startswith("- ")]
    return lines[0][:300] if _is_constraint(error) and lines else first_line(error)


def _trace(
    module: nn.Module, example: Mapping[str, Array], axes: Axes
) -> tuple[torch.jit.ScriptModule, list[warnings.WarningMessage]]:
    try:
        with quiet() as caught, torch.no_grad():
            # check_trace would run the same example again; the callers compare on other values and batches.
            script = torch.jit.trace(
                Positional(module, list(example)).eval(), example_tensors(example, axes=axes), check_trace=False
            )
    except Exception as error:
        raise ConversionError(
            f"torch.jit.trace raised {type(error).__name__}: {error}",
            where="; ".join(_lines_of_error(error)),
            fix="forward must take tensors, and return what model.answer and model.also name",
        ) from None
    return script, list(caught)


def _lines_of_warnings(caught: list[warnings.WarningMessage]) -> list[str]:
    tracer = [message for message in caught if issubclass(message.category, torch.jit.TracerWarning)]
    users = [message for message in tracer if not message.filename.startswith(_OWN)]
    return list(dict.fromkeys(_line(message.filename, message.lineno) for message in users))


def _lines_of_error(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*_FOREIGN, _OWN))]
    inside = [frame for frame in own if frame.name != "<module>" and "/contextlib.py" not in frame.filename]
    return [_line(inside[-1].filename, inside[-1].lineno or 0)] if inside else []


def _line(file: str, number: int) -> str:
    return f"{Path(file).name}:{number}: {linecache.getline(file, number).strip()}"


def _frozen_error(lines: list[str], reason: str, detail: str, target: str) -> ConversionError:
    return ConversionError(
        f"the model's code decides by {reason}, and an exported graph would keep the decision made for the example "
        f"({detail})",
        where=f"{target}: " + ("; ".join(lines) or "forward"),
        fix="write it with tensor operations (torch.where, masks, x.shape[0] instead of a constant)",
    )
