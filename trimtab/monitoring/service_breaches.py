"""Limits of the service, each held against one window's facts and what the version was used to; pure.

A figure is compared with what this very version was used to on this very host: its own windows without a breach, or,
in its first window, those of the version that served before. The latency that was verified is none to compare with: it
is of the model alone, on the machine that made the release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trimtab.journal.samples import Sample
from trimtab.monitoring.rates import rise
from trimtab.monitoring.service_facts import CLIENTS, FAILED, MB, OVERLOAD, Breach, ServiceFacts
from trimtab.monitoring.trend import Trend, trend
from trimtab.recipe.policy import Service as Limits

USUAL_WINDOWS = 5
LEAST_SLOWER_MS = 5.0  # a neighbour on the machine costs as much
LEAK_SPAN_S = 600.0  # a process that is younger than this only warms up
LEAST_GROWTH = {"rss": 64 * 2**20, "threads": 20, "files": 50}
LEAST_REQUESTS = 30  # of a few requests that somebody tries by hand nothing follows


def limits_passed(
    found: ServiceFacts,
    own: Sequence[ServiceFacts],
    before: Sequence[ServiceFacts],
    samples: Sequence[Sample],
    limits: Limits,
) -> list[Breach]:
    """Every limit that was passed; the arguments are those of `service.assess`."""
    return [
        *refusals(found, own, before, limits),
        *_latency(found, own, before, limits),
        *_memory(found, limits),
        *_leaks(samples, limits),
        *_disk(found, limits),
    ]


def refusals(
    found: ServiceFacts, own: Sequence[ServiceFacts], before: Sequence[ServiceFacts], limits: Limits
) -> list[Breach]:
    """Requests that failed or were refused, where they are more than usual."""
    return [
        *_errors(found, _usual(own, before, "errors"), limits),
        *_clients(found, _usual(own, before, "clients"), limits),
    ]


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
