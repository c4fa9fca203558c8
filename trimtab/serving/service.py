"""The parts of one scoring service, and their life: open the journal, follow the registry, close in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trimtab.journal.wal import Journal
from trimtab.serving.engine import Engine
from trimtab.serving.follow import Follower, Source
from trimtab.serving.metrics import Metrics
from trimtab.serving.recording import Recorder
from trimtab.serving.release import Check, Loaded, check_manifest, load_release
from trimtab.serving.sampling import Sampler
from trimtab.settings import Settings


@dataclass
class Service:
    """What answers for one release name.

    Attributes:
        journal: None only where rows are not to be kept (a benchmark).
        reports: folder of HTML reports.
        follower: None where a fixed release is served.
    """

    name: str
    reports: Path
    journal: Journal | None
    engine: Engine = field(default_factory=Engine)
    metrics: Metrics = field(default_factory=Metrics)
    follower: Follower | None = None
    recorder: Recorder | None = field(init=False)
    sampler: Sampler | None = field(init=False)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.journal, self.metrics) if self.journal is not None else None
        if self.journal is not None:
            self.metrics.journal_rows.set(self.journal.rows)
        self.metrics.unfinished.set_function(lambda: self.engine.unfinished)
        self.sampler = self._sampler(self.journal) if self.journal is not None else None

    def swap(self, loaded: Loaded) -> None:
        """Put a release in service."""
        self.engine.swap(loaded)
        self.metrics.swaps.inc()
        self.metrics.release.clear()
        self.metrics.release.labels(
            loaded.name, loaded.version, str(loaded.facts.get("candidate", "")), str(loaded.facts.get("target", ""))
        ).set(1)

    def _sampler(self, journal: Journal) -> Sampler:
        engine = self.engine
        return Sampler(
            journal.folder,
            self.metrics.registry,
            version=lambda: engine.current.version if engine.current is not None else None,
            queue=lambda: engine.unfinished,
        )

    def start(self) -> None:
        """Begin to follow the registry, and to look at the process."""
        if self.sampler is not None:
            self.sampler.start()
        if self.follower is not None:
            self.follower.start()

    def close(self) -> None:
        """Stop following, finish what is under way, close the journal."""
        if self.follower is not None:
            self.follower.stop()
        self.engine.close()
        if self.sampler is not None:
            self.sampler.stop()
        if self.journal is not None:
            self.journal.close()


def following(
    name: str, settings: Settings, source: Source, check: Check = check_manifest, threads: int | None = None
) -> Service:
    """A service that follows the champion of `name`.

    Raises:
        Conflict: another service writes the journal. StateError: the state directory cannot be written.
    """
    service = Service(name, settings.reports, Journal(settings.journal / name))
    service.follower = Follower(
        source,
        settings.home / "serving" / name,
        lambda folder, version: load_release(folder, version, check=check, threads=threads),
        service.swap,
        lambda: service.engine.current.version if service.engine.current is not None else None,
        service.metrics,
    )
    return service


def fixed(name: str, settings: Settings, release: Path, version: str, threads: int | None = None) -> Service:
    """A service of one release folder.

    Raises:
        ReleaseRefused: the release must not serve. Conflict, StateError: as for `following`.
    """
    loaded = load_release(release, version, threads=threads)
    service = Service(name, settings.reports, Journal(settings.journal / name))
    service.swap(loaded)
    return service
