"""What was seen of the service in one window, and which limits it passed: values, as they stand in a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

BreachKind = Literal["errors", "clients", "latency", "memory", "size", "leak", "disk"]
FAILED = ("model", "nan")  # of the journal: requests that reached the model
OVERLOAD, CLIENTS = ("timeout", "shed"), ("client", "validation")  # of the samples
REFUSED = (*CLIENTS, *OVERLOAD)
MB = 2**20


@dataclass(frozen=True)
class Breach:
    """One limit that was passed, with the figures."""

    kind: BreachKind
    detail: str


@dataclass(frozen=True)
class Quantile:
    """A percentile of the latency, in milliseconds, with its distribution-free 99 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ServiceFacts:
    """What was seen of the service in one window.

    Attributes:
        began_s, ended_s: time of the window's first and last row, seconds since the epoch.
        host: the machine, "" where the service was not sampled.
        requests: of the window, each once. failed: those of them on which the model failed.
        seen: requests counted by the samples inside the window. refused: how many of them ended how.
        latency: "p50", "p95", "p99" → Quantile; empty with fewer than 30 requests that were answered.
        resources: last sample's rss_mb, threads, files, disk_free_mb, queue, cpu, gpu_…; empty without a sample.
        breaches: limits that were passed.
    """

    began_s: float
    ended_s: float
    host: str
    requests: int
    failed: Mapping[str, int]
    seen: int
    refused: Mapping[str, int]
    latency: Mapping[str, Quantile]
    resources: Mapping[str, float]
    breaches: tuple[Breach, ...]

    def kinds(self) -> set[str]:
        """Kinds of its breaches."""
        return {breach.kind for breach in self.breaches}

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**asdict(self), "breaches": [asdict(breach) for breach in self.breaches]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ServiceFacts:
        """The inverse of `to_json`."""
        latency = {name: Quantile(**one) for name, one in value["latency"].items()}
        return cls(**{**value, "latency": latency, "breaches": tuple(Breach(**one) for one in value["breaches"])})
