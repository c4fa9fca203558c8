"""How the service did while it answered a window: failed requests, latency, memory, disk; what of it is a breach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from trimtab.journal.samples import Sample
from trimtab.monitoring.service_breaches import limits_passed, refusals
from trimtab.monitoring.service_facts import MB, REFUSED, Breach, BreachKind, Quantile, ServiceFacts
from trimtab.recipe.policy import Service as Limits

__all__ = ["Breach", "BreachKind", "Quantile", "ServiceFacts", "assess", "at_the_door", "quantiles"]
Array = np.ndarray
QUANTILES = (0.5, 0.95, 0.99)
CONFIDENCE = 0.99
MIN_LATENCIES = 30
NOT_FINITE = "NotFinite"


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
    return replace(found, breaches=(*limits_passed(found, own, before, samples, limits), *outgrown))


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
    return refusals(seen, past, (), limits)


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
