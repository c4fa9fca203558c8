"""Every story by its name, in the order in which they are played."""

from __future__ import annotations

from collections.abc import Callable

from deployments.stories import acting, faults, quiet
from deployments.stories.stage import Stage

STORIES: dict[str, Callable[[Stage], None]] = {
    "healthy": quiet.healthy,
    "sudden_drift": acting.sudden_drift,
    "latency": acting.latency,
    "bad_promotion": acting.bad_promotion,
    "drift_without_damage": quiet.drift_without_damage,
    "late_labels": acting.late_labels,
    "broken_producer": quiet.broken_producer,
    "proposal": acting.proposal,
    "breaker": acting.breaker,
    "event_lost": faults.event_lost,
    "kill_9": faults.kill_9,
    "clock": quiet.clock,
}
