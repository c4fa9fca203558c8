"""What a converter is given: one candidate to be written to one folder for one target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn


@dataclass(frozen=True)
class Code:
    """What builds a candidate's module anew, for the formats that ship it.

    Attributes:
        callable: "module:callable" of the recipe. kwargs: its arguments, JSON.
        folder: where the user's modules are. build: calls it, and gives the module as the code builds it.
    """

    callable: str
    kwargs: Mapping[str, Any]
    folder: Path
    build: Callable[[], nn.Module]


@dataclass(frozen=True)
class Job:
    """A conversion.

    Attributes:
        candidate: id of the candidate. target: e.g. "onnxruntime-cpu".
        source: a deployed module in eval mode, or the path of a rewritten graph.
        precision: "fp32" of a module; of a graph one of `trimtab.targets.PRECISIONS`.
        example: a few training rows, inputs name → array (n, ...), in the order of the specification.
        spec: what is in spec.json; see `graph.spec_of`.
        out: the folder to write to; spec.json is there.
        code: what builds the module, where it is known.
        opset: ONNX version to write; None: the exporter's own.
    """

    candidate: str
    target: str
    source: nn.Module | Path
    precision: str
    example: Mapping[str, NDArray[Any]]
    spec: Mapping[str, Any]
    out: Path
    code: Code | None = None
    opset: int | None = None

    @property
    def module(self) -> nn.Module:
        """The source of a `write`."""
        assert not isinstance(self.source, Path)
        return self.source

    @property
    def graph(self) -> Path:
        """The source of a `write_graph`."""
        assert isinstance(self.source, Path)
        return self.source

    @property
    def outputs(self) -> list[str]:
        """What the graph has to call its outputs, the one that decides first."""
        return [str(tensor["name"]) for tensor in self.spec["outputs"]]


class Format(Protocol):
    """A module of `trimtab.convert`, named by the `converter` of a target; imported when it is used."""

    def write(self, job: Job) -> list[str]:
        """Write `job.module` to `job.out`; gives notes for the reader.

        Raises:
            UnsupportedError: a layer cannot be deployed. ConversionError: the exporter failed.
        """

    def write_graph(self, job: Job) -> list[str]:
        """Write `job.graph` to `job.out`; only where a target carries more than "fp32"."""
