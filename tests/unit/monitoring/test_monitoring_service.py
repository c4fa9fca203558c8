"""The service beside its own past: failures with intervals, latency on this host, memory, leaks, disk; the budget."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from policy_world import verdict

from trimtab.journal.samples import Sample
from trimtab.monitoring.outgrown import outgrown
from trimtab.monitoring.rates import rise, wilson
from trimtab.monitoring.service import Breach, ServiceFacts, assess, at_the_door, quantiles
from trimtab.monitoring.trend import Trend, trend
from trimtab.monitoring.verdict import Verdict
from trimtab.recipe.policy import Service
from trimtab.recipe.schema import Budget

LIMITS = Service()
MB = 2**20


def window(n: int = 200, failed: int = 0, nan: int = 0, latency: float = 10.0, rows_each: int = 1, at: int = 0) -> Any:
    """n requests one second apart, the first ones failed; each of `rows_each` rows."""
    random = np.random.default_rng(at)
    status = np.where(np.arange(n) < failed + nan, 500, 200)
    error = np.array([None] * n, object)
    error[:failed], error[failed : failed + nan] = "RuntimeError", "NotFinite"
    every = np.repeat(np.arange(n), rows_each)
    return SimpleNamespace(
        request_id=np.array([f"r{i}" for i in every], object),
        time_ns=(at + every) * 10**9,
        status=status[every],
        error=error[every],
        latency_ms=(latency * random.lognormal(0, 0.2, n))[every],
    )


def sample(at_s: float, counts: dict[str, int] | None = None, **more: Any) -> Sample:
    base = Sample(
        at_ns=int(at_s * 1e9),
        since_ns=int((at_s - 5) * 1e9),
        host="here",
        pid=1,
        started_s=0.0,
        version="3",
        rss=200 * MB,
        cpu=0.1,
        threads=20,
        files=30,
        disk_free=10**11,
        queue=0,
        counts=counts or {},
    )
    return replace(base, **more)


def kinds(found: ServiceFacts | None) -> set[str]:
    assert found is not None
    return found.kinds()


def test_the_score_intervals_are_those_of_the_literature() -> None:
    """Newcombe (1998), table II, method 10: 56/70 against 48/80 gives 0.0524 to 0.3339 at 95 %."""
    z = 1.959963984540054
    difference, low, high = rise(56, 70, 48, 80, z)

    assert (round(difference, 4), round(low, 4), round(high, 4)) == (0.2, 0.0524, 0.3339)
    low, high = wilson(0, 10, z)
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(0.2775, abs=1e-4)


def test_failures_are_a_breach_only_where_even_the_lower_end_is_beyond_what_is_allowed() -> None:
    assert kinds(assess(window(failed=3), [], [], [], LIMITS)) == set()
    assert kinds(assess(window(failed=30), [], [], [], LIMITS)) == {"errors"}


def test_a_release_that_always_failed_as_often_is_no_news_and_a_new_one_is_held_against_the_one_before() -> None:
    used_to = assess(window(failed=20), [], [], [], Service(max_error_rise=0.5))
    assert used_to is not None

    assert kinds(assess(window(failed=22, at=300), [], [used_to], [], LIMITS)) == set()
    assert kinds(assess(window(failed=22, at=300), [], [], [used_to], LIMITS)) == set()
    assert kinds(assess(window(failed=80, at=300), [], [], [used_to], LIMITS)) == {"errors"}


def test_a_request_of_many_rows_fails_once_and_nan_is_told_apart() -> None:
    found = assess(window(n=100, failed=4, nan=6, rows_each=8), [], [], [], LIMITS)

    assert found is not None
    assert (found.requests, found.failed) == (100, {"model": 4, "nan": 6})


def test_refused_requests_come_from_the_samples_inside_the_window() -> None:
    counts = {"ok": 60, "shed": 40}
    inside, outside = sample(100, counts), sample(1000, counts)

    assert kinds(assess(window(), [inside], [], [], LIMITS)) == {"errors"}
    assert kinds(assess(window(), [outside], [], [], LIMITS)) == set()
    found = assess(window(), [sample(100, {"ok": 60, "validation": 30, "client": 10})], [], [], LIMITS)
    assert kinds(found) == {"clients"}


def test_what_is_refused_at_the_door_needs_no_window_and_a_few_requests_are_none() -> None:
    used_to = assess(window(), [sample(100, {"ok": 90, "validation": 10})], [], [], Service(max_error_rise=0.5))
    assert used_to is not None

    def found(**counts: int) -> set[str]:
        return {breach.kind for breach in at_the_door([sample(500, counts)], [used_to], LIMITS)}

    assert found(validation=60) == {"clients"}
    assert found(ok=50, shed=50) == {"errors"}
    assert found(ok=90, validation=12) == set()
    assert found(validation=20) == set()


def test_latency_is_compared_with_the_versions_first_clear_window_on_this_host() -> None:
    here, there = [sample(100)], [sample(100, host="there")]
    first = assess(window(latency=10), here, [], [], LIMITS)
    assert first is not None

    assert kinds(assess(window(latency=15, at=300), here, [first], [], LIMITS)) == set()
    slow = assess(window(latency=30, at=300), here, [first], [], LIMITS)
    assert kinds(slow) == {"latency"}
    assert kinds(assess(window(latency=30, at=300), there, [first], [], LIMITS)) == set()
    assert kinds(assess(window(latency=30, at=600), here, [first, slow], [], LIMITS)) == {"latency"}  # type: ignore[list-item]


def test_the_first_window_of_a_version_is_held_against_the_version_before() -> None:
    before = assess(window(latency=10), [sample(100)], [], [], LIMITS)

    assert kinds(assess(window(latency=30, at=300), [sample(100)], [], [before], LIMITS)) == {"latency"}  # type: ignore[list-item]


def test_a_slowdown_that_a_neighbour_on_the_machine_could_cause_is_none() -> None:
    first = assess(window(latency=0.5), [], [], [], LIMITS)

    assert kinds(assess(window(latency=4, at=300), [], [first], [], LIMITS)) == set()  # type: ignore[list-item]


def test_the_recipes_own_limits_hold_without_a_past() -> None:
    assert kinds(assess(window(latency=10), [], [], [], Service(max_p99_ms=5))) == {"latency"}
    assert kinds(assess(window(latency=10), [], [], [], Service(max_p99_ms=50))) == set()
    assert kinds(assess(window(), [sample(100)], [], [], Service(max_rss_mb=150))) == {"memory"}
    assert kinds(assess(window(), [sample(100, disk_free=MB)], [], [], LIMITS)) == {"disk"}


def test_quantiles_hold_the_true_ones_and_few_requests_have_none() -> None:
    random = np.random.default_rng(0)
    assert quantiles(random.random(29)) == {}
    held = 0
    for _ in range(400):
        found = quantiles(random.random(500))
        held += all(found[f"p{q}"].low <= q / 100 <= found[f"p{q}"].high for q in (50, 95))
    assert held >= 384


def hours(rss: Any, n: int = 700) -> list[Sample]:
    return [sample(5.0 * i, rss=int(rss(i))) for i in range(n)]


def test_steady_growth_is_a_leak_and_a_saw_tooth_or_a_warm_up_is_none() -> None:
    random = np.random.default_rng(0)
    late = window(at=4000)

    def noisy(value: float) -> float:
        return value * MB + random.random() * 40 * MB

    leak = hours(lambda i: noisy(200 + 0.5 * i))
    saw = hours(lambda i: noisy(200 + 3 * (i % 60)))
    warm = hours(lambda i: noisy(200 + min(i, 20) * 10))
    slight = hours(lambda i: noisy(200 + 0.02 * i))

    assert [kinds(assess(late, one, [], [], LIMITS)) for one in (leak, saw, warm, slight)] == [
        {"leak"},
        set(),
        set(),
        set(),
    ]


def test_a_restart_begins_the_series_anew() -> None:
    leak = hours(lambda i: (200 + 0.5 * i) * MB)
    after = [sample(3600.0 + 5 * i, pid=2, started_s=3590.0) for i in range(50)]

    assert kinds(assess(window(at=4000), [*leak, *after], [], [], LIMITS)) == set()


def test_the_trend_of_a_line_is_its_slope_and_noise_has_none() -> None:
    random = np.random.default_rng(1)
    times = np.arange(60.0)

    line = trend(times, 3 + 2 * times + random.normal(0, 1, 60))
    assert line is not None
    assert line.low < 2 < line.high
    assert line.p < 1e-6
    false = sum(trend(times, random.normal(0, 1, 60)).surely_grew > 0 for _ in range(300))  # type: ignore[union-attr]
    assert false <= 3
    assert Trend(1.0, 1.0, 0.5, 2.0, span_s=10.0, p=0.01).surely_grew == 0
    assert Trend(1.0, 1.0, 0.5, 2.0, span_s=10.0, p=1e-4).surely_grew == 5
    assert trend(times[:11], times[:11]) is None
    assert trend(times, np.ones(60)).p == 1.0  # type: ignore[union-attr]


def test_a_budget_that_was_tightened_is_a_breach_of_what_it_speaks_of() -> None:
    figures = {"size_ratio": 2.0, "speedup": 3.0, "p99_ms": 4.0}

    assert list(outgrown(figures, Budget(min_size_ratio=2, min_speedup=3, max_p99_ms=4))) == []
    assert [b.kind for b in outgrown(figures, Budget(min_size_ratio=3, min_speedup=4, max_p99_ms=3))] == [
        "size",
        "latency",
        "latency",
    ]
    assert list(outgrown({}, Budget(min_size_ratio=3))) == []


def test_a_breach_makes_a_healthy_verdict_one_on_the_service_and_the_same_bytes_come_back() -> None:
    facts = assess(window(failed=60, nan=3), [sample(100, {"shed": 9}, gpu={"memory": 1.0})], [], [], LIMITS)
    plain = verdict("healthy", service=None)
    with_it = plain.with_service(facts)

    assert (with_it.kind, plain.with_service(replace(facts, breaches=())).kind) == ("service", "healthy")  # type: ignore[type-var]
    assert with_it.reasons[0].startswith("errors: failures of the model")
    again = Verdict.from_json(with_it.to_json())
    assert again == with_it
    assert again.digest == with_it.digest
    assert "service" not in plain.to_json()


def test_a_window_of_nothing_but_failures_is_the_services_not_the_datas() -> None:
    facts = assess(window(failed=200), [], [], [], LIMITS)
    broken = verdict("data_quality", columns=(), service=None)

    assert broken.with_service(facts).kind == "service"
    clear = replace(facts, breaches=(Breach("disk", ""),))  # type: ignore[type-var]
    assert broken.with_service(clear).kind == "data_quality"
