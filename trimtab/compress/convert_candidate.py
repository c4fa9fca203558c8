"""A candidate on a target: the deployed graph of its torch module, or its compressed graph as it is."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from trimtab.candidate import Candidate, Converted
from trimtab.compress.opening import arguments_of, open_torch
from trimtab.convert import convert
from trimtab.convert.code import code_of
from trimtab.convert.of_recipe import deployed_of, spec_for
from trimtab.store import new_folder
from trimtab.workbench import Workbench

# Format of a candidate → the file its graph is in.
GRAPH_FILES = {
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "executorch": "model.pte",
    "litert": "model.tflite",
}


def precision_of(candidate: Candidate) -> str:
    """ "fp32" of a torch module; of a graph what its facts say, e.g. "int8", "int8-dynamic", "int8-nncf", "fp16"."""
    return "fp32" if candidate.format == "torch" else str(candidate.facts.get("precision", "int8"))


def deployed_candidate(bench: Workbench, candidate: Candidate) -> nn.Module:
    """The deployed graph of a candidate in torch format, as a module in eval mode."""
    return deployed_of(bench, open_torch(bench, candidate))


def convert_candidate(bench: Workbench, candidate: Candidate, target: str) -> Converted:
    """Convert and keep the files in the store.

    Raises:
        ConversionError: the exporter failed or its result does not answer like torch.
        UnsupportedError: the target does not carry the candidate's precision.
    """
    spec = spec_for(bench)
    source: nn.Module | Path
    if candidate.format in GRAPH_FILES:
        source = bench.folder(candidate.id) / GRAPH_FILES[candidate.format]
    else:
        source = deployed_candidate(bench, candidate)
    code, opset = code_of(bench, arguments_of(candidate)), bench.recipe.convert.opset
    with new_folder(bench.target_folder(candidate.id, target)) as draft:
        return convert(candidate.id, target, source, bench.example, spec, draft, precision_of(candidate), code, opset)
