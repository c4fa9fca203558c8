"""The service looks at itself: what it counts, what it writes, what it shows, and that it outlives a full disk."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.journal.samples import FILE, read_samples
from trimtab.serving import gpu
from trimtab.serving.metrics import Metrics
from trimtab.serving.sampling import Sampler, kind_of, totals


def sampler(folder: Path, metrics: Metrics, period_s: float = 60.0) -> Sampler:
    return Sampler(folder, metrics.registry, version=lambda: "3", queue=lambda: 2, period_s=period_s)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "ok"),
        (400, "validation"),
        (413, "client"),
        (499, "client"),
        (408, "timeout"),
        (503, "shed"),
        (500, "model"),
    ],
)
def test_each_status_has_its_kind(status: int, kind: str) -> None:
    assert kind_of(status) == kind


def test_counts_are_of_the_time_since_the_last_sample_and_nan_is_told_apart(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.requests.labels(200).inc(5)
    looking = sampler(tmp_path, metrics)
    metrics.requests.labels(200).inc(3)
    metrics.requests.labels(500).inc(4)
    metrics.model_errors.labels("NotFinite").inc()

    assert looking.sample().counts == {"ok": 3, "model": 3, "nan": 1}
    assert looking.sample().counts == {}
    assert totals(metrics.registry)["ok"] == 8


def test_a_sample_is_of_this_process_and_in_the_file_when_the_service_ends(tmp_path: Path) -> None:
    looking = sampler(tmp_path, Metrics())
    looking.start()
    looking.stop()

    [found] = read_samples(tmp_path, 0, time.time_ns())
    assert (found.pid, found.version, found.queue) == (os.getpid(), "3", 2)
    assert found.rss > 10 * 2**20
    assert found.threads >= 1
    assert found.files > 3
    assert found.disk_free > 0


def test_it_samples_by_itself_and_prometheus_sees_the_process(tmp_path: Path) -> None:
    metrics = Metrics()
    looking = sampler(tmp_path, metrics, period_s=0.02)
    looking.start()
    deadline = time.monotonic() + 30
    while len(read_samples(tmp_path, 0, time.time_ns())) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    looking.stop()

    assert len(read_samples(tmp_path, 0, time.time_ns())) >= 2
    for name in (
        "process_resident_memory_bytes",
        "process_open_fds",
        "trimtab_threads",
        "trimtab_journal_disk_free_bytes",
    ):
        assert metrics.registry.get_sample_value(name) > 0  # type: ignore[operator]


def test_a_disk_that_is_full_is_said_once_and_sampling_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looking = sampler(tmp_path, Metrics())
    append = looking._writer.append

    def full(sample: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(looking._writer, "append", full)
    with caplog.at_level(logging.ERROR):
        looking._write()
        looking._write()
    assert len(caplog.records) == 1
    monkeypatch.setattr(looking._writer, "append", append)
    looking._write()
    assert (tmp_path / FILE).stat().st_size > 0


def test_without_a_gpu_there_are_no_figures_of_one_and_with_one_they_are_nvmls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "DEVICE", tmp_path / "nothing")
    assert gpu.Gpu.first() is None
    nvml = SimpleNamespace(
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=123),
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=50),
    )
    assert gpu.Gpu(nvml, "handle").read() == {"memory": 123.0, "load": 0.5}
