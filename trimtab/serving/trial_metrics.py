"""What is counted of a challenger, for Prometheus; on the service's registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from trimtab.journal.outcomes import Outcome, Tally
from trimtab.serving.release import Loaded


class TrialMetrics:
    """Counters and gauges of canary and shadow; their names are their documentation.

    Args:
        registry: of the service. registry_up: its gauge, which the challenger's follower sets too.
    """

    def __init__(self, registry: CollectorRegistry, registry_up: Gauge) -> None:
        self.registry_up = registry_up
        self.challenger = Gauge(
            "trimtab_challenger_info",
            "1 for the release that is tried",
            ["name", "version", "candidate", "target"],
            registry=registry,
        )
        self.refused = Counter("trimtab_challenger_refused", "challengers refused", registry=registry)
        self.answers = Counter("trimtab_answers", "answered requests by alias", ["alias"], registry=registry)
        self.rescued = Counter(
            "trimtab_canary_rescued",
            "requests of the challenger's share that the champion answered instead",
            ["reason"],
            registry=registry,
        )
        self.shadow = Counter(
            "trimtab_shadow", "copies by outcome: compared, failed, dropped, lost", ["outcome"], registry=registry
        )
        self.rows = Counter("trimtab_shadow_rows", "compared rows by decision", ["decision"], registry=registry)
        figures = {
            "agreement": "share of compared rows decided as the champion did",
            "error_rate": "share of the challenger's requests that failed",
            "latency_ratio": "time of the challenger over the champion's, geometric mean",
            "difference": "largest absolute difference of an output",
        }
        self.figures = {
            name: Gauge(f"trimtab_challenger_{name}", text, ["champion", "challenger"], registry=registry)
            for name, text in figures.items()
        }

    def serve(self, loaded: Loaded | None) -> None:
        """Name the release that is tried; None: there is none any more."""
        self.challenger.clear()
        for gauge in self.figures.values():
            gauge.clear()
        if loaded is not None:
            facts = loaded.facts
            labels = (loaded.name, loaded.version, str(facts.get("candidate", "")), str(facts.get("target", "")))
            self.challenger.labels(*labels).set(1)

    def count(self, outcome: Outcome) -> None:
        """Count one outcome."""
        if outcome.kind == "shadow":
            self.shadow.labels("compared" if outcome.error is None else "failed").inc()
            if outcome.error is None:
                self.rows.labels("same").inc(outcome.agreed)
                self.rows.labels("other").inc(outcome.rows - outcome.agreed)

    def show(self, tally: Tally) -> None:
        """Set the figures of a pair."""
        for name, gauge in self.figures.items():
            value = getattr(tally, name)
            if value is not None:
                gauge.labels(tally.champion, tally.challenger).set(value)
