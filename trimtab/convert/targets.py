"""A candidate on a target: the format is written, loaded by the target's predictor, and compared with its source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.candidate import Converted
from trimtab.errors import ConversionError, UnsupportedError
from trimtab.store import folder_digests

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

PRECISIONS = {
    "onnxruntime-cpu": ("fp32", "int8"),
    "openvino-cpu": ("fp32", "int8"),
    "torchscript-cpu": ("fp32",),
}
SPEC_FILE = "spec.json"


def carries(target: str, precision: str) -> bool:
    """Whether a target can hold a candidate of a precision ("fp32" or "int8").

    Raises:
        UnsupportedError: the target is unknown.
    """
    if target not in PRECISIONS:
        raise UnsupportedError(f"unknown target {target!r}", where="targets", fix=f"one of {sorted(PRECISIONS)}")
    return precision in PRECISIONS[target]


def convert(
    candidate_id: str,
    target: str,
    source: nn.Module | Path,
    example: Mapping[str, NDArray[Any]],
    spec: Mapping[str, Any],
    out: Path,
) -> Converted:
    """Write a candidate for a target, and check that it answers like its source.

    Args:
        candidate_id: id of the candidate.
        target: e.g. "onnxruntime-cpu".
        source: a deployed module (FP32), or the path of a quantized `model.onnx` (INT8).
        example: a few training rows, inputs name → array (n, ...), in the order of the specification.
        spec: what goes into spec.json; see `graph.spec_of`.
        out: an existing, empty folder.

    Raises:
        UnsupportedError: the target does not carry the precision, or a layer cannot be deployed.
        ConversionError: the exporter failed, or what it wrote does not answer like the source.
    """
    precision = "int8" if isinstance(source, Path) else "fp32"
    if not carries(target, precision):
        raise UnsupportedError(
            f"does not carry {precision.upper()}: a quantized graph is ONNX and has no TorchScript form",
            where=target,
            fix="use onnxruntime-cpu or openvino-cpu for quantized candidates",
        )
    if not out.is_dir() or any(out.iterdir()):
        raise ConversionError("is not an existing, empty folder", where=str(out), fix="give an empty one")
    names = [tensor["name"] for tensor in spec["inputs"]]
    if names != list(example):
        raise ConversionError(f"the example has inputs {list(example)}, the specification {names}", where=target)
    (out / SPEC_FILE).write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
    notes = (
        _write_int8(target, source, names, out) if isinstance(source, Path) else _write(target, source, example, out)
    )
    _check(target, source, example, spec, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and path.name != SPEC_FILE)
    return Converted(candidate_id, target, precision, folder_digests(out), size, tuple(notes))


def _write(target: str, module: nn.Module, example: Mapping[str, NDArray[Any]], out: Path) -> list[str]:
    if target == "onnxruntime-cpu":
        from trimtab.convert.onnx_format import export_onnx

        return export_onnx(module, example, out / "model.onnx")
    if target == "openvino-cpu":
        from trimtab.convert.openvino_format import write_openvino

        return write_openvino(module, example, out / "model.xml")
    from trimtab.convert.torchscript_format import write_torchscript

    return write_torchscript(module, example, out / "model.pt")


def _write_int8(target: str, graph: Path, names: list[str], out: Path) -> list[str]:
    from trimtab.convert.onnx_format import check_file, side_files

    notes = check_file(graph, names)
    if target == "openvino-cpu":
        from trimtab.convert.openvino_format import write_openvino_from_onnx

        return [*write_openvino_from_onnx(graph, out / "model.xml"), *notes]
    shutil.copyfile(graph, out / "model.onnx")
    for path in side_files(graph):
        shutil.copyfile(path, out / path.name)
    return ["the quantized ONNX graph as it is", *notes]


def _check(
    target: str, source: nn.Module | Path, example: Mapping[str, NDArray[Any]], spec: Mapping[str, Any], out: Path
) -> None:
    from trimtab import runtime
    from trimtab.convert.probing import check_answers, check_batches

    output = spec["outputs"][0]
    try:
        predictor = runtime.load(target, out, threads=1)
    except Exception as error:
        raise ConversionError(
            f"the runtime cannot load what was written: {str(error).strip()[:500]}",
            where=target,
            fix="take the target out of `targets`, or replace the operation it names",
        ) from None
    if isinstance(source, Path):
        check_batches(example, output["shape"][1], lambda inputs: predictor.predict(inputs)[output["name"]], target)
    else:
        check_answers(source, example, lambda inputs: predictor.predict(inputs)[output["name"]], target)
