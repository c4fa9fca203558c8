"""The parts of one scoring service, and their life: open the journal, follow the registry, close in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trimtab.journal.salt import salt
from trimtab.journal.wal import Journal
from trimtab.serving.engine import Engine
from trimtab.serving.follow import Follower, Source
from trimtab.serving.keeping import Keeper, Keeping
from trimtab.serving.metrics import Metrics
from trimtab.serving.recording import Recorder
from trimtab.serving.release import Check, Loaded, check_manifest, load_release
from trimtab.serving.tokens import TokenFile, Tokens
from trimtab.settings import Settings


@dataclass
class Service:
    """What answers for one release name.

    Attributes:
        journal: None only where rows are not to be kept (a benchmark).
        reports: folder of HTML reports.
        follower: None where a fixed release is served.
        tokens: those that are taken; None where everybody may ask.
        salt_file: of the key of journalled hashes; None: beside the reports.
    """

    name: str
    reports: Path
    journal: Journal | None
    engine: Engine = field(default_factory=Engine)
    metrics: Metrics = field(default_factory=Metrics)
    follower: Follower | None = None
    tokens: Tokens | None = None
    salt_file: Path | None = None
    recorder: Recorder | None = field(init=False)

    def __post_init__(self) -> None:
        self.recorder = None
        if self.journal is not None:
            keeper = Keeper(lambda: salt(self.salt_file or self.reports.with_name("journal-salt")))
            self.recorder = Recorder(self.journal, self.metrics, keeper)
            self.metrics.journal_rows.set(self.journal.rows)
        self.metrics.unfinished.set_function(lambda: self.engine.unfinished)

    def swap(self, loaded: Loaded) -> None:
        """Put a release in service."""
        self.engine.swap(loaded)
        self.metrics.swaps.inc()
        self.metrics.release.clear()
        self.metrics.release.labels(
            loaded.name, loaded.version, str(loaded.facts.get("candidate", "")), str(loaded.facts.get("target", ""))
        ).set(1)

    def start(self) -> None:
        """Begin to follow the registry."""
        if self.follower is not None:
            self.follower.start()

    def close(self) -> None:
        """Stop following, finish what is under way, close the journal."""
        if self.follower is not None:
            self.follower.stop()
        self.engine.close()
        if self.journal is not None:
            self.journal.close()


@dataclass(frozen=True)
class Place:
    """What belongs to where a release is served and not to the release.

    Attributes:
        auth: whether a token is needed.
        keeping: what the journal keeps, instead of what the release says.
        threads: of the runtime, instead of the release's own.
    """

    auth: bool = False
    keeping: Keeping | None = None
    threads: int | None = None


def following(
    name: str, settings: Settings, source: Source, check: Check = check_manifest, place: Place | None = None
) -> Service:
    """A service that follows the champion of `name`.

    Raises:
        Conflict: another service writes the journal. StateError: the state directory or the tokens cannot be used.
    """
    place = place or Place()
    service = _service(name, settings, place)
    service.follower = Follower(
        source,
        settings.home / "serving" / name,
        lambda folder, version: _load(folder, version, settings, place, check),
        service.swap,
        lambda: service.engine.current.version if service.engine.current is not None else None,
        service.metrics,
    )
    return service


def fixed(name: str, settings: Settings, release: Path, version: str, place: Place | None = None) -> Service:
    """A service of one release folder.

    Raises:
        ReleaseRefused: the release must not serve. Conflict, StateError: as for `following`.
    """
    place = place or Place()
    loaded = _load(release, version, settings, place, check_manifest)
    service = _service(name, settings, place)
    service.swap(loaded)
    return service


def _service(name: str, settings: Settings, place: Place) -> Service:
    tokens = Tokens(TokenFile.of(settings)) if place.auth else None  # before the journal: what fails leaves it alone
    journal = Journal(settings.journal / name)
    return Service(name, settings.reports, journal, tokens=tokens, salt_file=settings.journal_salt)


def _load(folder: Path, version: str, settings: Settings, place: Place, check: Check) -> Loaded:
    loaded = load_release(folder, version, check=check, threads=place.threads, keeping=place.keeping)
    if loaded.limits.keeping.hashed:
        salt(settings.journal_salt)  # that it can be used is found out now, not with the first request
    return loaded
