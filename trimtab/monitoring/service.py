"""How the service did while it answered a window: failed requests, latency, memory, disk; and what of it is a breach.

A figure is compared with what this very version was used to on this very host: its own windows without a breach, or,
in its first window, those of the version that served before. The latency that was verified is none to compare with: it
is of the model alone, on the machine that made the release.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from trimtab.journal.samples import Sample
from trimtab.monitoring.rates import rise
from trimtab.monitoring.trend import Trend, trend
from trimtab.recipe.policy import Service as Limits

Array = np.ndarray
BreachKind = Literal["errors", "clients", "latency", "memory", "size", "leak", "disk"]
QUANTILES = (0.5, 0.95, 0.99)
CONFIDENCE = 0.99
USUAL_WINDOWS = 5
MIN_LATENCIES = 30
LEAST_SLOWER_MS = 5.0  # a neighbour on the machine costs as much
LEAK_SPAN_S = 600.0  # a process that is younger than this only warms up
LEAST_GROWTH = {"rss": 64 * 2**20, "threads": 20, "files": 50}
FAILED = ("model", "nan")  # of the journal: requests that reached the model
OVERLOAD, CLIENTS = ("timeout", "shed"), ("client", "validation")  # of the samples
REFUSED = (*CLIENTS, *OVERLOAD)
LEAST_REQUESTS = 30  # of a few requests that somebody tries by hand nothing follows
NOT_FINITE = "NotFinite"
MB = 2**20


class Answers(Protocol):
    """The attributes of a journal window that are read here; n rows."""

    @property
    def request_id(self) -> Array: ...
    @property
    def time_ns(self) -> Array: ...
    @property
    def status(self) -> Array: ...
    @property
    def latency_ms(self) -> Array: ...
    @property
    def error(self) -> Array: ...


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


def assess(
    window: Answers,
    samples: Sequence[Sample],
    own: Sequence[ServiceFacts],
    before: Sequence[ServiceFacts],
    limits: Limits,
    outgrown: Iterable[Breach] = (),
) -> ServiceFacts | None:
    """What was seen of the service while it answered a window; pure.

    Args:
        window: rows that one version answered.
        samples: of the service, up to the window's last row and an hour back, oldest first.
        own: of the version's earlier windows, oldest first. before: of the version that served before it.
        limits: the recipe's `monitoring.service`.
        outgrown: verified figures of the release that no longer meet the recipe's budget.

    Returns:
        None for an empty window.
    """
    if not len(window.request_id):
        return None
    began, ended = int(window.time_ns[0]), int(window.time_ns[-1])
    inside = [sample for sample in samples if began < sample.at_ns <= ended]
    host = inside[-1].host if inside else samples[-1].host if samples else ""
    requests, failed, latencies = _requests(window)
    refused = sum((Counter(sample.counts) for sample in inside), Counter())
    found = ServiceFacts(
        began_s=began / 1e9,
        ended_s=ended / 1e9,
        host=host,
        requests=requests,
        failed=failed,
        seen=refused.total(),
        refused={kind: refused[kind] for kind in REFUSED},
        latency=quantiles(latencies),
        resources=_resources(samples),
        breaches=(),
    )
    breaches = [
        *_errors(found, _usual(own, before, "errors"), limits),
        *_clients(found, _usual(own, before, "clients"), limits),
        *_latency(found, own, before, limits),
        *_memory(found, limits),
        *_leaks(samples, limits),
        *_disk(found, limits),
        *outgrown,
    ]
    return replace(found, breaches=tuple(breaches))


def at_the_door(samples: Sequence[Sample], past: Sequence[ServiceFacts], limits: Limits) -> list[Breach]:
    """What is refused before it reaches the model: such requests leave no row, so that no window ever tells.

    Args:
        samples: since the last window. past: of earlier windows, oldest first.
    """
    counts = sum((Counter(sample.counts) for sample in samples), Counter())
    seen = ServiceFacts(
        began_s=0.0,
        ended_s=0.0,
        host="",
        requests=0,
        failed={},
        seen=counts.total(),
        refused={kind: counts[kind] for kind in REFUSED},
        latency={},
        resources={},
        breaches=(),
    )
    usual = {kind: _usual(past, (), kind) for kind in ("errors", "clients")}
    return [*_errors(seen, usual["errors"], limits), *_clients(seen, usual["clients"], limits)]


def quantiles(latencies: Array) -> dict[str, Quantile]:
    """Percentiles with order-statistic intervals (David and Nagaraja 2003, section 7.1).

    Args:
        latencies: (n,) milliseconds, one a request.

    Returns:
        Nothing where there are fewer than 30.
    """
    n = len(latencies)
    if n < MIN_LATENCIES:
        return {}
    from scipy.stats import binom  # here, because importing scipy.stats takes a second

    ordered, tail = np.sort(latencies), (1 - CONFIDENCE) / 2
    found = {}
    for share in QUANTILES:
        below, above = int(binom.ppf(tail, n, share)), int(binom.ppf(1 - tail, n, share))
        low, high = ordered[max(0, below - 1)], ordered[min(n - 1, above)]
        found[f"p{100 * share:.0f}"] = Quantile(float(np.quantile(ordered, share)), float(low), float(high))
    return found


def _requests(window: Answers) -> tuple[int, dict[str, int], Array]:
    """Number of requests, those that failed by kind, and the latency of each that was answered."""
    _, first = np.unique(np.asarray(window.request_id).astype(str), return_index=True)
    status = np.asarray(window.status)[first]
    wrong = first[status >= 500]
    kinds = np.asarray(window.error)[wrong] if len(window.error) else np.array([None] * len(wrong), object)
    unfinished = sum(1 for kind in kinds if kind == NOT_FINITE)
    failed = {"model": len(wrong) - unfinished, "nan": unfinished}
    latencies = np.asarray(window.latency_ms)
    return len(first), failed, latencies[first[status < 400]] if len(latencies) else np.empty(0)


def _resources(samples: Sequence[Sample]) -> dict[str, float]:
    if not samples:
        return {}
    last = samples[-1]
    return {
        "rss_mb": last.rss / MB,
        "threads": float(last.threads),
        "files": float(last.files),
        "disk_free_mb": last.disk_free / MB,
        "queue": float(last.queue),
        "cpu": last.cpu,
        **{f"gpu_{name}": value for name, value in last.gpu.items()},
    }


def _usual(own: Sequence[ServiceFacts], before: Sequence[ServiceFacts], kind: str) -> Sequence[ServiceFacts]:
    """The newest windows without such a breach: of the version itself, else of the one before it."""
    for past in (own, before):
        clear = [facts for facts in past if kind not in facts.kinds()]
        if clear:
            return clear[-USUAL_WINDOWS:]
    return ()


def _errors(found: ServiceFacts, usual: Sequence[ServiceFacts], limits: Limits) -> list[Breach]:
    """The service's own failures: the model raised or answered NaN; or it was too slow and shed requests."""
    breaches = []
    past = sum(_sum(facts.failed, *FAILED) for facts in usual), sum(facts.requests for facts in usual)
    if detail := _risen(_sum(found.failed, *FAILED), found.requests, *past, limits.max_error_rise):
        breaches.append(Breach("errors", f"failures of the model: {detail} ({_by_kind(found.failed, FAILED)})"))
    past = sum(_sum(facts.refused, *OVERLOAD) for facts in usual), sum(facts.seen for facts in usual)
    if detail := _risen(_sum(found.refused, *OVERLOAD), found.seen, *past, limits.max_error_rise):
        breaches.append(Breach("errors", f"overload: {detail} ({_by_kind(found.refused, OVERLOAD)})"))
    return breaches


def _clients(found: ServiceFacts, usual: Sequence[ServiceFacts], limits: Limits) -> list[Breach]:
    past = sum(_sum(facts.refused, *CLIENTS) for facts in usual), sum(facts.seen for facts in usual)
    detail = _risen(_sum(found.refused, *CLIENTS), found.seen, *past, limits.max_error_rise)
    return [Breach("clients", f"requests refused: {detail} ({_by_kind(found.refused, CLIENTS)})")] if detail else []


def _risen(bad: int, total: int, usual_bad: int, usual_total: int, most: float) -> str:
    """In words how far a share rose, where even the lower end of the rise is beyond `most`; "" elsewhere."""
    if total < LEAST_REQUESTS:
        return ""
    _, low, high = rise(bad, total, usual_bad, usual_total)
    if low <= most:
        return ""
    usual = f"{usual_bad} of {usual_total} before" if usual_total else "nothing known before"
    return f"{bad} of {total} ({usual}), a rise of {low:.1%} to {high:.1%}; {most:.1%} is allowed"


def _latency(
    found: ServiceFacts, own: Sequence[ServiceFacts], before: Sequence[ServiceFacts], limits: Limits
) -> list[Breach]:
    if not found.latency:
        return []
    breaches = []
    tail = found.latency["p99"]
    if limits.max_p99_ms is not None and tail.low > limits.max_p99_ms:
        detail = f"p99 {tail.value:.3g} ms (at least {tail.low:.3g}); {limits.max_p99_ms:g} ms is allowed"
        breaches.append(Breach("latency", detail))
    usual = _first_clear(found.host, own) or _first_clear(found.host, before[::-1])
    if usual is not None:
        now, then = found.latency["p50"], usual.latency["p50"]
        if now.low > max(limits.max_latency_ratio * then.high, then.high + LEAST_SLOWER_MS):
            detail = (
                f"median {now.value:.3g} ms [{now.low:.3g}, {now.high:.3g}], {now.value / then.value:.1f} times the "
                f"{then.value:.3g} ms [{then.low:.3g}, {then.high:.3g}] it was used to; "
                f"{limits.max_latency_ratio:g} times is allowed"
            )
            breaches.append(Breach("latency", detail))
    return breaches


def _first_clear(host: str, past: Sequence[ServiceFacts]) -> ServiceFacts | None:
    """The first window on this host with a latency that was no breach."""
    return next((f for f in past if f.host == host and f.latency and "latency" not in f.kinds()), None)


def _memory(found: ServiceFacts, limits: Limits) -> list[Breach]:
    rss = found.resources.get("rss_mb")
    if rss is None or limits.max_rss_mb is None or rss <= limits.max_rss_mb:
        return []
    return [Breach("memory", f"the process takes {rss:.0f} MiB; {limits.max_rss_mb:g} is allowed")]


def _leaks(samples: Sequence[Sample], limits: Limits) -> list[Breach]:
    """Steady growth of the process that serves now."""
    mine = [sample for sample in samples if sample.process == samples[-1].process]
    if not mine or (mine[-1].at_ns - mine[0].at_ns) / 1e9 < LEAK_SPAN_S:
        return []
    times = np.array([sample.at_ns for sample in mine]) / 1e9
    breaches = []
    for name, least in LEAST_GROWTH.items():
        found = trend(times, np.array([getattr(sample, name) for sample in mine], np.float64))
        if found is not None and found.surely_grew > max(least, limits.max_growth * found.start):
            breaches.append(Breach("leak", _grown(name, found)))
    return breaches


def _grown(name: str, found: Trend) -> str:
    what, unit = {"rss": ("memory", MB), "threads": ("threads", 1), "files": ("open files", 1)}[name]
    hour = 3600 / unit
    return (
        f"{what} of the process grow steadily: {found.start / unit:.0f} at first, {found.slope * hour:+.0f} an hour "
        f"[{found.low * hour:+.0f}, {found.high * hour:+.0f}] over {found.span_s / 60:.0f} minutes, p = {found.p:.1g}"
    )


def _disk(found: ServiceFacts, limits: Limits) -> list[Breach]:
    free = found.resources.get("disk_free_mb")
    if free is None or free >= limits.min_disk_mb:
        return []
    return [Breach("disk", f"{free:.0f} MiB are free where the journal lies; {limits.min_disk_mb:g} are asked for")]


def _sum(counts: Mapping[str, int], *names: str) -> int:
    return sum(counts.get(name, 0) for name in names)


def _by_kind(counts: Mapping[str, int], names: Iterable[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in names if counts.get(name)) or "none"
