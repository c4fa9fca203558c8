"""A candidate on a target: the format is written, loaded by the target's predictor, and compared with its source."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from trimtab import targets
from trimtab.candidate import Converted
from trimtab.convert.job import Code, Format, Job
from trimtab.errors import ConversionError, ModelError, UnsupportedError
from trimtab.free_axes import axes_of, by_name
from trimtab.runtime.availability import refuse_unavailable
from trimtab.store import folder_digests

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

SPEC_FILE = "spec.json"


def convert(
    candidate_id: str,
    target: str,
    source: nn.Module | Path,
    example: Mapping[str, NDArray[Any]],
    spec: Mapping[str, Any],
    out: Path,
    precision: str | None = None,
    code: Code | None = None,
    opset: int | None = None,
) -> Converted:
    """Write a candidate for a target, and check that it answers like its source.

    Args:
        candidate_id: id of the candidate.
        target: e.g. "onnxruntime-cpu".
        source: a deployed module (FP32), or the path of a compressed `model.onnx`, or of a `model.xml` of NNCF's.
        example: a few training rows, inputs name → array (n, ...), in the order of the specification.
        spec: what goes into spec.json; see `graph.spec_of`.
        out: an existing, empty folder.
        precision: of a compressed graph; by default "int8". A module is "fp32".
        code: what builds the module; only eager-cpu needs it.
        opset: ONNX version of what is exported; None: the exporter's own.

    Raises:
        UnsupportedError: the target does not carry the precision, cannot hold a free axis or further outputs, or cannot
            be used on this machine; or a layer cannot be deployed.
        ModelError: further outputs of the module are not those of the specification.
        ConversionError: the exporter failed, or what it wrote does not answer like the source.
    """
    entry = targets.target(target)
    precision = (precision or "int8") if isinstance(source, Path) else "fp32"
    if precision not in entry.precisions:
        others = [name for name, other in targets.TARGETS.items() if precision in other.precisions]
        raise UnsupportedError(
            f"does not carry {precision}: {entry.why_not}", where=target, fix=f"use {' or '.join(others)} for it"
        )
    axes = axes_of(spec)
    if axes and not entry.free_axes:
        raise UnsupportedError(
            f"cannot hold {', '.join(by_name(axes))} as a free axis: {entry.why_fixed}",
            where=target,
            fix="take it out of `targets`, or give the axis one size",
        )
    if len(spec["outputs"]) > 1:
        _check_outputs(entry, target, source, example, spec)
    refuse_unavailable(target)
    if not out.is_dir() or any(out.iterdir()):
        raise ConversionError("is not an existing, empty folder", where=str(out), fix="give an empty one")
    names = [tensor["name"] for tensor in spec["inputs"]]
    if names != list(example):
        raise ConversionError(f"the example has inputs {list(example)}, the specification {names}", where=target)
    (out / SPEC_FILE).write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
    job = Job(candidate_id, target, source, precision, example, spec, out, code, opset)
    converter = cast(Format, import_module(f"trimtab.convert.{entry.converter}"))
    notes = converter.write_graph(job) if isinstance(source, Path) else converter.write(job)
    check(target, source, example, spec, out, precision)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and path.name != SPEC_FILE)
    return Converted(candidate_id, target, precision, folder_digests(out), size, tuple(notes))


def _check_outputs(
    entry: targets.Target,
    target: str,
    source: nn.Module | Path,
    example: Mapping[str, NDArray[Any]],
    spec: Mapping[str, Any],
) -> None:
    """See that the target can hold further outputs, and that a module has those of the specification."""
    names = [str(tensor["name"]) for tensor in spec["outputs"]]
    if not entry.further_outputs:
        raise UnsupportedError(
            f"cannot hold {', '.join(names[1:])} beside {names[0]}: {entry.why_one}",
            where=target,
            fix="take it out of `targets`, or model.also out of the recipe",
        )
    if isinstance(source, Path):
        return
    from trimtab.convert.graph import measured_spec

    found = measured_spec(source, example, axes_of(spec))["outputs"]
    if found != spec["outputs"]:
        raise ModelError(
            f"the module's outputs are {_shapes(found)}, expected {_shapes(spec['outputs'])}",
            where=target,
            fix="outputs of a release keep their names and shapes, whatever compression does",
        )


def _shapes(outputs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{tensor['name']} ({', '.join(map(str, tensor['shape']))})" for tensor in outputs)


def check(
    target: str,
    source: nn.Module | Path,
    example: Mapping[str, NDArray[Any]],
    spec: Mapping[str, Any],
    out: Path,
    precision: str = "fp32",
) -> None:
    """Load a written folder with the target's predictor, and compare its answers with its source's.

    Args are those of `convert`; `out` is what it wrote.

    Raises:
        ConversionError: the folder cannot be loaded, or does not answer like the source; the message names the first
            layer that differs, where the source is a module.
    """
    from trimtab import runtime
    from trimtab.convert.probing import check_answers, check_batches

    axes = axes_of(spec)
    if targets.target(target).converter == "onnx_format":
        from trimtab.convert.onnx_format import check_file

        check_file(out / "model.onnx", list(example), [tensor["name"] for tensor in spec["outputs"]], axes)
    try:
        predictor = runtime.load(target, out, threads=1)
    except Exception as error:
        raise ConversionError(
            f"the runtime cannot load what was written: {str(error).strip()[:500]}",
            where=target,
            fix="take the target out of `targets`, or replace the operation it names",
        ) from None

    if not isinstance(source, Path):
        check_answers(source, example, predictor.predict, target, out, axes)
        return
    if precision == "int8-dynamic":
        # One row, repeated: among others it would be rounded with their ranges, and may well answer otherwise.
        example = {name: values[:1] for name, values in example.items()}
    check_batches(example, spec, predictor.predict, target, axes)
    if precision in targets.STORED and target != "onnxruntime-cpu":
        check_answers(_as_module(source, dict(spec)), example, predictor.predict, target, out, axes)


def _as_module(graph: Path, spec: dict[str, Any]) -> nn.Module:
    """A stored graph computes in FP32, so that any runtime must answer as ONNX Runtime does."""
    import torch

    from trimtab.runtime.onnxruntime_cpu import Predictor, open_session

    predictor = Predictor(open_session(graph, threads=1), spec)

    class Graph(torch.nn.Module):
        output = spec["outputs"][0]["name"]
        answers = tuple(tensor["name"] for tensor in spec["outputs"])

        def forward(self, *values: torch.Tensor, **named: torch.Tensor) -> tuple[torch.Tensor, ...]:
            tensors = named or {spec["inputs"][0]["name"]: values[0]}
            given = predictor.predict({name: tensor.numpy() for name, tensor in tensors.items()})
            return tuple(torch.from_numpy(given[name]) for name in self.answers)

    return Graph()
