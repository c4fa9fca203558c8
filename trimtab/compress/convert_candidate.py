"""A candidate on a target: the deployed graph of its torch module, or its compressed ONNX graph as it is."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from trimtab.candidate import Candidate, Converted
from trimtab.compress.opening import open_torch
from trimtab.convert import convert
from trimtab.convert.graph import deployed, spec_of
from trimtab.store import new_folder
from trimtab.workbench import Workbench


def precision_of(candidate: Candidate) -> str:
    """ "fp32" of a torch module; of an ONNX graph what its facts say, e.g. "int8", "clustered", "sparse"."""
    return str(candidate.facts.get("precision", "int8")) if candidate.format == "onnx" else "fp32"


def convert_candidate(bench: Workbench, candidate: Candidate, target: str) -> Converted:
    """Convert and keep the files in the store.

    Raises:
        ConversionError: the exporter failed or its result does not answer like torch.
        UnsupportedError: the target does not carry the candidate's precision.
    """
    spec = spec_of(bench.example, bench.classes)
    source: nn.Module | Path
    if candidate.format == "onnx":
        source = bench.folder(candidate.id) / "model.onnx"
    else:
        source = deployed(open_torch(bench, candidate), bench.recipe.preprocess)
    with new_folder(bench.target_folder(candidate.id, target)) as draft:
        return convert(candidate.id, target, source, bench.example, spec, draft, precision_of(candidate))
