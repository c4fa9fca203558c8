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

NNCF = "int8-nncf"
# Of a candidate's weights: "fp32"; "int8" (QDQ), "int8-dynamic" (ranges of each batch) and "int8-nncf" (an OpenVINO
# model that NNCF quantized), computed in integers; "clustered" and "fp16", which are smaller files of other weights,
# and "sparse", one of the same, computed in FP32.
PRECISIONS = {
    "onnxruntime-cpu": ("fp32", "int8", "int8-dynamic", "clustered", "fp16", "sparse"),
    "openvino-cpu": ("fp32", "int8", NNCF, "clustered", "fp16", "sparse"),
    "torchscript-cpu": ("fp32",),
}
WHY_NOT = {
    "onnxruntime-cpu": "what NNCF quantized is an OpenVINO model, which ONNX Runtime cannot read",
    # Measured, 2026.4: every layer runs in f32, after its input was rounded to 8 bits; convert_model writes FP32.
    "openvino-cpu": "OpenVINO computes dynamically quantized layers in FP32",
    "torchscript-cpu": "a compressed graph is ONNX or OpenVINO and has no TorchScript form",
}
STORED = ("clustered", "fp16", "sparse")  # weights in another form, arithmetic in FP32
SPEC_FILE = "spec.json"


def carries(target: str, precision: str) -> bool:
    """Whether a target can hold a candidate of a precision, one of those in `PRECISIONS`.

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
    precision: str | None = None,
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

    Raises:
        UnsupportedError: the target does not carry the precision, or a layer cannot be deployed.
        ConversionError: the exporter failed, or what it wrote does not answer like the source.
    """
    precision = (precision or "int8") if isinstance(source, Path) else "fp32"
    if not carries(target, precision):
        raise UnsupportedError(
            f"does not carry {precision}: {WHY_NOT.get(target, 'unknown')}",
            where=target,
            fix=f"use {' or '.join(name for name, held in PRECISIONS.items() if precision in held)} for it",
        )
    if not out.is_dir() or any(out.iterdir()):
        raise ConversionError("is not an existing, empty folder", where=str(out), fix="give an empty one")
    names = [tensor["name"] for tensor in spec["inputs"]]
    if names != list(example):
        raise ConversionError(f"the example has inputs {list(example)}, the specification {names}", where=target)
    (out / SPEC_FILE).write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
    if isinstance(source, Path):
        notes = _write_graph(target, source, precision, spec, out)
    else:
        notes = _write(target, source, example, out)
    _check(target, source, precision, example, spec, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and path.name != SPEC_FILE)
    return Converted(candidate_id, target, precision, folder_digests(out), size, tuple(notes))


def _write(target: str, module: nn.Module, example: Mapping[str, NDArray[Any]], out: Path) -> list[str]:
    if target == "onnxruntime-cpu":
        from trimtab.convert.onnx_format import export_onnx

        return export_onnx(module, example, out / "model.onnx")
    if target == "openvino-cpu":
        from trimtab.convert.openvino_format import write_openvino

        return write_openvino(module, example, out)
    from trimtab.convert.torchscript_format import write_torchscript

    return write_torchscript(module, example, out / "model.pt")


def _write_graph(target: str, graph: Path, precision: str, spec: Mapping[str, Any], out: Path) -> list[str]:
    if precision == NNCF:
        from trimtab.convert.openvino_format import copy_compressed

        return copy_compressed(graph, out)
    from trimtab.convert.onnx_format import check_file, side_files

    notes = check_file(graph, [tensor["name"] for tensor in spec["inputs"]], spec["outputs"][0]["name"])
    if target == "openvino-cpu":
        from trimtab.convert.openvino_format import write_openvino_from_onnx, write_openvino_unfolded

        write = write_openvino_unfolded if precision in STORED else write_openvino_from_onnx
        return [*write(graph, out), *notes]
    shutil.copyfile(graph, out / "model.onnx")
    for path in side_files(graph):
        shutil.copyfile(path, out / path.name)
    return [f"the {precision} ONNX graph as it is", *notes]


def _check(
    target: str,
    source: nn.Module | Path,
    precision: str,
    example: Mapping[str, NDArray[Any]],
    spec: Mapping[str, Any],
    out: Path,
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

    def answer(inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        return predictor.predict(inputs)[output["name"]]

    if not isinstance(source, Path):
        check_answers(source, example, answer, target)
        return
    if precision == "int8-dynamic":
        # One row, repeated: among others it would be rounded with their ranges, and may well answer otherwise.
        example = {name: values[:1] for name, values in example.items()}
    check_batches(example, output["shape"][1], answer, target, output["name"])
    if precision in STORED and target != "onnxruntime-cpu":
        check_answers(_as_module(source, dict(spec)), example, answer, target)


def _as_module(graph: Path, spec: dict[str, Any]) -> nn.Module:
    """A stored graph computes in FP32, so that any runtime must answer as ONNX Runtime does."""
    import torch

    from trimtab.runtime.onnxruntime_cpu import Predictor, open_session

    predictor = Predictor(open_session(graph, threads=1), spec)

    class Graph(torch.nn.Module):
        output = spec["outputs"][0]["name"]

        def forward(self, *values: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
            tensors = named or {spec["inputs"][0]["name"]: values[0]}
            answers = predictor.predict({name: tensor.numpy() for name, tensor in tensors.items()})
            return torch.from_numpy(answers[spec["outputs"][0]["name"]])

    return Graph()
