"""What the service counts, for Prometheus; one registry a service, so that tests and reloads do not share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from trimtab.serving.pool import Pool

_REQUESTS = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """Counters and gauges of one service; their names are their documentation."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter("trimtab_requests", "scoring requests by HTTP status", ["status"], registry=registry)
        self.refused_requests = Counter(
            "trimtab_refused_requests", "requests refused at the door, by reason", ["reason"], registry=registry
        )
        self.rows = Counter("trimtab_rows", "rows answered", registry=registry)
        self.request_seconds = Histogram(
            "trimtab_request_seconds", "arrival to answer", buckets=_SECONDS, registry=registry
        )
        self.predict_seconds = Histogram("trimtab_predict_seconds", "model alone", buckets=_SECONDS, registry=registry)
        self.call_requests = Histogram(
            "trimtab_call_requests", "requests that shared a call of the model", buckets=_REQUESTS, registry=registry
        )
        self.workers = Gauge("trimtab_workers", "calls of the model at once", registry=registry)
        self.processes = Gauge("trimtab_processes", "worker processes of the release, alive", registry=registry)
        self.process_deaths = Counter(
            "trimtab_process_deaths", "worker processes that died, by alias", ["alias"], registry=registry
        )
        self.shares_calls = Gauge("trimtab_shares_calls", "1 where requests may share a call", registry=registry)
        self.unwanted = Counter(
            "trimtab_unwanted", "requests nobody waited for any more, by reason", ["reason"], registry=registry
        )
        self.unfinished = Gauge("trimtab_queue", "requests waiting for or in the model", registry=registry)
        self.model_errors = Counter("trimtab_model_errors", "requests the model failed on", ["kind"], registry=registry)
        self.journal_rows = Gauge("trimtab_journal_rows", "rows in the journal", registry=registry)
        self.journal_shed = Counter("trimtab_journal_shed_rows", "rows answered but not journalled", registry=registry)
        self.labels = Counter("trimtab_labels", "labels by outcome", ["outcome"], registry=registry)
        self.release = Gauge(
            "trimtab_release_info",
            "1 for the release that answers",
            ["name", "version", "candidate", "target"],
            registry=registry,
        )
        self.swaps = Counter("trimtab_release_swaps", "releases put in service", registry=registry)
        self.refused = Counter("trimtab_release_refused", "releases refused", registry=registry)
        self.registry_up = Gauge("trimtab_registry_up", "whether the last poll was answered", registry=registry)

    def watch(self, pool: Pool | None, alias: str) -> None:
        """Count the deaths of a release's worker processes; None: it has none."""
        if pool is not None:
            pool.tell_deaths(self.process_deaths.labels(alias).inc)
