"""The values that travel: a candidate with its lineage, what it was converted to, and what was measured on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Json = Any
Format = Literal["torch", "onnx", "openvino", "executorch", "litert"]


def digest_of(value: Json) -> str:
    """SHA-256 (hex) of a JSON value in canonical form: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Step:
    """One thing done to a model: `method` (e.g. "train", "prune", "distil", "quantize"), its parameters, its seed."""

    method: str
    parameters: Mapping[str, Json] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class InputsDigest:
    """What a candidate was made from: SHA-256 of data splits, weights, the user's code, and the versions used."""

    data: str
    weights: str
    code: str
    versions: str


@dataclass(frozen=True)
class Candidate:
    """A model with its lineage. Immutable: a step returns a new one.

    Attributes:
        lineage: the steps applied, in order.
        inputs: digests of everything else that decides the result.
        format: what its own files are: "torch" (safetensors weights + pruning history), or a rewritten graph, "onnx"
            (`model.onnx`), "openvino" (`model.xml` + `model.bin`), "executorch" (`model.pte`) or "litert"
            (`model.tflite`).
        files: name → SHA-256 of the candidate's own files, relative to its folder in the store.
        facts: achieved figures that are properties of the files, e.g. {"parameters": 1234, "macs": 5678}.
    """

    lineage: tuple[Step, ...]
    inputs: InputsDigest
    format: Format = "torch"
    files: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Json] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Identity: 16 hex digits of the digest of lineage and inputs; no host and no time in it."""
        return digest_of([[asdict(step) for step in self.lineage], asdict(self.inputs)])[:16]

    @property
    def label(self) -> str:
        """Short human name, e.g. "prune-l1-0.5 distil int8"; "original" for the trained model."""
        following = [*(step.method for step in self.lineage[1:]), None]
        words = [
            step.parameters.get("label", step.method)
            for step, next_method in zip(self.lineage, following, strict=True)
            # Of several rungs of training the last one names them all.
            if step.method not in ("train", "given", next_method)
        ]
        return " ".join(str(word) for word in words) or "original"

    @property
    def model_kwargs(self) -> Mapping[str, Json]:
        """Arguments of the user's callable that a search chose: its modules are built with these."""
        kwargs: Mapping[str, Json] = self.lineage[0].parameters.get("model_kwargs", {}) if self.lineage else {}
        return kwargs

    def then(self, step: Step, **changes: Any) -> Candidate:
        """The candidate after one more step; `changes` replace format, files and facts."""
        return Candidate(
            lineage=(*self.lineage, step),
            inputs=self.inputs,
            format=changes.get("format", self.format),
            files=changes.get("files", {}),
            facts=changes.get("facts", {}),
        )

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "id": self.id, "label": self.label}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Candidate:
        """The inverse of `to_json`."""
        return cls(
            lineage=tuple(Step(**step) for step in value["lineage"]),
            inputs=InputsDigest(**value["inputs"]),
            format=value["format"],
            files=dict(value["files"]),
            facts=dict(value["facts"]),
        )


@dataclass(frozen=True)
class Converted:
    """A candidate on a target: the folder a Predictor loads.

    Attributes:
        candidate: id of the candidate.
        target: e.g. "onnxruntime-cpu".
        precision: one of `trimtab.targets.PRECISIONS`, e.g. "fp32", "int8", "int8-nncf", "fp16".
        files: name → SHA-256, every file the runtime needs to load, spec.json included.
        size_bytes: bytes of those files as shipped, without spec.json.
        notes: what the converter has to say (which exporter was used and why).
    """

    candidate: str
    target: str
    precision: str
    files: Mapping[str, str]
    size_bytes: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Plain dict, JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Converted:
        """The inverse of `to_json`."""
        return cls(**{**value, "notes": tuple(value["notes"])})


@dataclass(frozen=True)
class Interval:
    """A point estimate with a confidence interval; `n` is the sample size."""

    value: float
    low: float
    high: float
    n: int
    confidence: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}] (n={self.n}, {self.confidence:.0%})"


@dataclass(frozen=True)
class Latency:
    """Latency of one predictor at one batch size, interleaved with the baseline in one run; seconds per call.

    Attributes:
        p50_s, p95_s, p99_s: percentiles over all timed calls.
        n: number of timed calls.
        speedup: median over rounds of baseline p50 / own p50 of the same round.
        speedup_low, speedup_high: smallest and largest of those ratios over the rounds (the spread).
        rounds: number of interleaved rounds.
    """

    batch: int
    threads: int
    p50_s: float
    p99_s: float
    n: int
    speedup: float
    speedup_low: float
    speedup_high: float
    rounds: int
    p95_s: float | None = None  # None in what was recorded before it was taken
