"""What the service's process used and what it refused, sampled every few seconds into a file beside the journal.

The journal holds requests that reached the model; those that were refused (bad body, queue full) leave no row. They are
counted here, with memory, threads, open files and disk of the process. One JSON object a line, synced; a file of 8 MiB
becomes the old one and a new one is begun, so two files are all there ever is (some days of samples).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from trimtab.journal.segments import sync_directory

FILE, OLD = "samples.jsonl", "samples.old.jsonl"
LIMIT = 8 * 2**20
KINDS = ("ok", "client", "validation", "model", "timeout", "shed", "nan")


@dataclass(frozen=True)
class Sample:
    """One look at the service's process.

    Attributes:
        at_ns, since_ns: nanoseconds since the epoch; `counts` are of the time between.
        host: name of the machine. pid, started_s: the process, and when it began (seconds since the epoch).
        version: the release in service, "" for none.
        rss: bytes of memory. cpu: seconds of processor time in the interval over its length.
        threads, files: of the process. disk_free: bytes where the journal lies. queue: requests unfinished.
        counts: how requests ended in the interval, by `KINDS`.
        gpu: {"memory": bytes used, "load": share of time a kernel ran} of the first GPU; empty where there is none.
    """

    at_ns: int
    since_ns: int
    host: str
    pid: int
    started_s: float
    version: str
    rss: int
    cpu: float
    threads: int
    files: int
    disk_free: int
    queue: int
    counts: Mapping[str, int] = field(default_factory=dict)
    gpu: Mapping[str, float] = field(default_factory=dict)

    @property
    def process(self) -> tuple[str, int, float]:
        """Which process it was, on which machine."""
        return self.host, self.pid, self.started_s


class SampleWriter:
    """Appends samples; one writer, the process that holds the journal's lock.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._path, self._old, self._limit = folder / FILE, folder / OLD, limit
        self._handle = self._open()

    def append(self, sample: Sample) -> None:
        """Write a sample; durable when this returns.

        Raises:
            OSError: the disk is full or broken; a torn line is skipped by readers.
        """
        if os.fstat(self._handle).st_size >= self._limit:
            os.replace(self._path, self._old)
            os.close(self._handle)
            self._handle = self._open()
        os.write(self._handle, b"\n" * self._torn() + orjson.dumps(asdict(sample)) + b"\n")
        os.fdatasync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _open(self) -> int:
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        sync_directory(self._path.parent)
        return handle

    def _torn(self) -> bool:
        """Whether the last line was cut short, by a kill or a full disk."""
        size = os.fstat(self._handle).st_size
        return size > 0 and os.pread(self._handle, 1, size - 1) != b"\n"


def read_samples(folder: Path, from_ns: int, to_ns: int) -> list[Sample]:
    """Samples taken in from_ns < at_ns ≤ to_ns, oldest first; none where the service never sampled."""
    found = {sample.at_ns: sample for sample in _every(folder) if from_ns < sample.at_ns <= to_ns}
    return [found[at] for at in sorted(found)]


def _every(folder: Path) -> Iterator[Sample]:
    # The new file first: where it becomes the old one in between, it is read twice and not missed.
    for name in (FILE, OLD):
        try:
            lines = (folder / name).read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            sample = _sample(line)
            if sample is not None:
                yield sample


def _sample(line: bytes) -> Sample | None:
    """None for a line that was cut short when its writer was killed: what it would have said is in no other place."""
    try:
        value: Any = orjson.loads(line)
        return Sample(**value)
    except (ValueError, TypeError):
        return None
