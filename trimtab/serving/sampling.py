"""The service looks at its own process every few seconds: into the file of samples beside the journal, and /metrics.

Monitoring reads the file; it holds what leaves no row in the journal: refused requests, memory, threads, open files.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from trimtab.journal.samples import KINDS, Sample, SampleWriter
from trimtab.serving.gpu import Gpu

PERIOD_S = 5.0
NOT_FINITE = "NotFinite"
_TIMEOUTS, _SHED = (408, 504), (429, 503)
_logger = logging.getLogger(__name__)


def kind_of(status: int) -> str:
    """How a request ended, by its HTTP status: one of `KINDS`; NaN answers are told apart by the model's errors."""
    if status < 400:
        return "ok"
    if status in _TIMEOUTS:
        return "timeout"
    if status in _SHED:
        return "shed"
    if status in (400, 422):
        return "validation"
    return "client" if status < 500 else "model"


def totals(registry: CollectorRegistry) -> dict[str, int]:
    """How requests ended since the process began, by `KINDS`, from the counters that /metrics shows."""
    found = dict.fromkeys(KINDS, 0)
    for metric in registry.collect():
        for sample in metric.samples:
            if sample.name == "trimtab_requests_total":
                found[kind_of(int(sample.labels["status"]))] += int(sample.value)
            elif sample.name == "trimtab_model_errors_total" and sample.labels["kind"] == NOT_FINITE:
                found["nan"] += int(sample.value)
    found["model"] = max(0, found["model"] - found["nan"])  # a NaN answer is a status 500 too
    return found


@dataclass
class Sampler:
    """A background thread that samples this process.

    Args:
        folder: the journal's. registry: the service's counters; gauges are added to it.
        version: of the release in service. queue: requests unfinished.
        others: ids of the processes that run its model; their memory and time are added.
    """

    folder: Path
    registry: CollectorRegistry
    version: Callable[[], str | None]
    queue: Callable[[], int]
    others: Callable[[], Sequence[int]] = tuple
    period_s: float = PERIOD_S
    _stop: threading.Event = field(default_factory=threading.Event)
    _failing: bool = False

    def __post_init__(self) -> None:
        self._process, self._gpu, self._host = psutil.Process(), Gpu.first(), platform.node()
        self._writer = SampleWriter(self.folder)
        self._counts, self._since = totals(self.registry), time.time_ns()
        self._cpu = _cpu_seconds(self._process)
        self._others: dict[int, float] = {}
        ProcessCollector(registry=self.registry)
        self._gauges = {
            "threads": Gauge("trimtab_threads", "threads of the process", registry=self.registry),
            "disk_free": Gauge(
                "trimtab_journal_disk_free_bytes", "free space where the journal lies", registry=self.registry
            ),
        }
        self._gpu_memory = (
            Gauge("trimtab_gpu_memory_bytes", "memory in use on the first GPU", registry=self.registry)
            if self._gpu
            else None
        )
        self._thread = threading.Thread(target=self._run, name="sample", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Take the last sample and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self.period_s)
        self._write()
        self._writer.close()

    def sample(self) -> Sample:
        """How the process is now, and how requests ended since the last call."""
        now, counts, cpu = time.time_ns(), totals(self.registry), _cpu_seconds(self._process)
        others_rss, others_cpu = self._of_others()
        with self._process.oneshot():
            found = Sample(
                at_ns=now,
                since_ns=self._since,
                host=self._host,
                pid=self._process.pid,
                started_s=self._process.create_time(),
                version=self.version() or "",
                rss=self._process.memory_info().rss + others_rss,
                cpu=(cpu - self._cpu + others_cpu) / max(1e-9, (now - self._since) / 1e9),
                threads=self._process.num_threads(),
                files=self._process.num_fds(),
                disk_free=shutil.disk_usage(self.folder).free,
                queue=self.queue(),
                counts=_fresh(counts, self._counts),
                gpu=self._gpu.read() if self._gpu else {},
            )
        self._counts, self._since, self._cpu = counts, now, cpu
        self._show(found)
        return found

    def _run(self) -> None:
        while not self._stop.wait(self.period_s):
            self._write()

    def _write(self) -> None:
        try:
            self._writer.append(self.sample())
            self._failing = False
        except Exception:  # e.g. the disk is full: serving goes on, and so does this thread
            if not self._failing:
                _logger.exception("the process cannot be sampled; it goes on")
            self._failing = True

    def _of_others(self) -> tuple[int, float]:
        """Memory of the other processes, bytes, and their seconds of CPU since the last call."""
        rss, before, self._others = 0, self._others, {}
        for pid in self.others():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now
                process = psutil.Process(pid)
                rss += process.memory_info().rss
                self._others[pid] = _cpu_seconds(process)
        return rss, sum(seconds - before.get(pid, 0.0) for pid, seconds in self._others.items())

    def _show(self, sample: Sample) -> None:
        self._gauges["threads"].set(sample.threads)
        self._gauges["disk_free"].set(sample.disk_free)
        if self._gpu_memory is not None:
            self._gpu_memory.set(sample.gpu.get("memory", 0.0))


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _fresh(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {kind: now[kind] - before.get(kind, 0) for kind in now if now[kind] > before.get(kind, 0)}
