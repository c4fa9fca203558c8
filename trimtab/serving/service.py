"""The parts of one scoring service, and their life: open the journal, follow the registry, close in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trimtab.journal.comparisons import Comparisons
from trimtab.journal.rows import LabelRow
from trimtab.journal.salt import salt
from trimtab.journal.wal import Journal
from trimtab.serving.challenger import Challengers, Seat
from trimtab.serving.drain import Drain
from trimtab.serving.engine import Engine
from trimtab.serving.failures import Busy
from trimtab.serving.follow import Follower, Source
from trimtab.serving.health import Progress
from trimtab.serving.keeping import Keeper, Keeping
from trimtab.serving.lane import Lane
from trimtab.serving.limits import Limits
from trimtab.serving.metrics import Metrics
from trimtab.serving.recording import Recorder
from trimtab.serving.release import Check, Loaded, check_manifest, load_release
from trimtab.serving.routing import CHALLENGER, CHAMPION, alias_for
from trimtab.serving.sampling import Sampler
from trimtab.serving.shares import Shares
from trimtab.serving.tokens import TokenFile, Tokens
from trimtab.settings import Settings

POLL_CHALLENGER_S = 1.0
FOLLOWER_S, MODEL_S, FILES_S = 0.2, 0.5, 1.0  # longest that each is waited for at the end


@dataclass
class Service:
    """What answers for one release name.

    Attributes:
        journal: None only where rows are not to be kept (a benchmark).
        reports: folder of HTML reports.
        follower: None where a fixed release is served.
        challengers: None where there is nothing to try. challenger_follower: keeps it on the alias.
        tokens: those that are taken; None where everybody may ask.
        salt_file: of the key of journalled hashes; None: beside the reports.
        closed_whole: False once `close` met a model or a disk that hangs.
    """

    name: str
    reports: Path
    journal: Journal | None
    engine: Engine = field(default_factory=Engine)
    metrics: Metrics = field(default_factory=Metrics)
    shares: Shares = field(default_factory=Shares)
    follower: Follower | None = None
    challengers: Challengers | None = None
    challenger_follower: Follower | None = None
    drain: Drain = field(default_factory=Drain)
    tokens: Tokens | None = None
    salt_file: Path | None = None
    recorder: Recorder | None = field(init=False)
    progress: Progress = field(init=False)
    sampler: Sampler | None = field(init=False)
    closed_whole: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        self.recorder = None
        self.progress = Progress(lambda: self.engine)
        if self.journal is not None:
            self.recorder = Recorder(self.journal, self.metrics, self.keeper())
            self.metrics.journal_rows.set(self.journal.rows)
        self.metrics.unfinished.set_function(lambda: self.engine.unfinished)
        self.metrics.processes.set_function(lambda: len(self._pids()))
        self.engine.called = self.metrics.call_requests.observe
        self.sampler = self._sampler(self.journal) if self.journal is not None else None

    def keeper(self) -> Keeper:
        """What decides how inputs are journalled; each journal has its own."""
        return Keeper(lambda: salt(self.salt_file or self.reports.with_name("journal-salt")))

    @property
    def seat(self) -> Seat | None:
        """The challenger, if there is one that is not the champion itself (it was just promoted)."""
        seat = None if self.challengers is None else self.challengers.current
        champion = self.engine.current
        same = seat is not None and champion is not None and seat.loaded.version == champion.version
        return None if same else seat

    @property
    def drain_s(self) -> float:
        """Seconds from SIGTERM to the end at the latest, as the champion's release says."""
        champion = self.engine.current
        return champion.limits.drain_s if champion is not None else Limits().drain_s

    def swap(self, loaded: Loaded) -> None:
        """Put a release in service."""
        self.engine.swap(loaded)
        self.metrics.swaps.inc()
        self.metrics.workers.set(loaded.plan.workers)
        self.metrics.shares_calls.set(loaded.plan.shares)
        self.metrics.watch(loaded.pool, CHAMPION)
        self.metrics.release.clear()
        self.metrics.release.labels(
            loaded.name, loaded.version, str(loaded.facts.get("candidate", "")), str(loaded.facts.get("target", ""))
        ).set(1)

    def lane(self, request_id: str, asked: str | None) -> Lane:
        """Which release answers a request, and where; one for the whole request, whatever is swapped meanwhile.

        Args:
            asked: the request's X-Trimtab-Alias, None without one.

        Raises:
            Busy: no release is loaded. ProtocolError: the header asks for what there is not.
        """
        champion, challengers, seat = self.engine.current, self.challengers, self.seat
        alias = alias_for(request_id, asked, seat.trial if seat is not None else None)
        own = None if champion is None else Lane(CHAMPION, champion, self.engine, self.recorder)
        if alias == CHALLENGER and seat is not None and challengers is not None:
            rescue = own if asked is None else None
            if rescue is None or challengers.able(seat):
                return Lane(CHALLENGER, seat.loaded, challengers.engine, challengers.recorder, rescue)
            challengers.metrics.rescued.labels("busy").inc()
        if own is None:
            raise Busy("no release is loaded yet")
        return own

    async def record_labels(self, labels: Sequence[LabelRow]) -> list[bool]:
        """Record labels where their rows are; returns when they are durable, with which rows are known.

        Raises:
            JournalError: they are not recorded, or not all of them; giving them again changes nothing.
        """
        challengers = self.challengers
        theirs = [challengers is not None and challengers.holds(label) for label in labels]
        parts = [[label for label, of in zip(labels, theirs, strict=True) if of is wanted] for wanted in (False, True)]
        recorders = (self.recorder, None if challengers is None else challengers.recorder)
        known = await asyncio.gather(
            *(recorder.labels(part) for recorder, part in zip(recorders, parts, strict=True) if recorder is not None)
        )
        answers = [iter(part) for part in known]
        return [next(answers[of]) for of in theirs]

    def _sampler(self, journal: Journal) -> Sampler:
        engine = self.engine
        return Sampler(
            journal.folder,
            self.metrics.registry,
            version=lambda: engine.current.version if engine.current is not None else None,
            queue=lambda: engine.unfinished,
            others=lambda: [*self._pids(), *self._challengers_pids()],
        )

    def _pids(self) -> list[int]:
        """Of the worker processes of the release in service."""
        pool = None if self.engine.current is None else self.engine.current.pool
        return [] if pool is None else pool.pids

    def _challengers_pids(self) -> list[int]:
        """Of the worker processes of what is tried: they take the same memory and cores."""
        seat = self.seat
        return [] if seat is None or seat.loaded.pool is None else seat.loaded.pool.pids

    def start(self) -> None:
        """Begin to follow the registry, and to look at the process."""
        if self.sampler is not None:
            self.sampler.start()
        for follower in self._followers:
            follower.start()

    def close(self) -> None:
        """Stop following, finish what is under way, close the journals; nothing that hangs is waited for long."""
        for follower in self._followers:
            follower.stop(FOLLOWER_S)
        if self.sampler is not None:
            self.sampler.stop()
        rest = [] if self.challengers is None else self.challengers.close(FOLLOWER_S)
        journal = [] if self.journal is None else [self.journal.close]
        closed = [_closes(self.engine.close, MODEL_S), *(_closes(close, FILES_S) for close in [*journal, *rest])]
        self.closed_whole = all(closed)

    @property
    def _followers(self) -> list[Follower]:
        return [follower for follower in (self.follower, self.challenger_follower) if follower is not None]


@dataclass(frozen=True)
class Place:
    """What belongs to where a release is served and not to the release.

    Attributes:
        auth: whether a token is needed.
        keeping: what the journal keeps, instead of what the release says.
        threads: of the runtime, instead of the release's own. processes: the same, a number or "auto".
    """

    auth: bool = False
    keeping: Keeping | None = None
    threads: int | None = None
    processes: str | int | None = None


def following(
    name: str,
    settings: Settings,
    source: Source,
    check: Check = check_manifest,
    place: Place | None = None,
    challenger: Source | None = None,
) -> Service:
    """A service that follows the champion of `name`.

    Args:
        challenger: the alias of what is tried beside it; None: nothing is.

    Raises:
        Conflict: another service writes the journal. StateError: the state directory or the tokens cannot be used.
    """
    here = place or Place()
    service = _service(name, settings, here)
    folder = settings.home / "serving" / name

    def load(release: Path, version: str) -> Loaded:
        return _load(release, version, settings, here, check)

    service.follower = Follower(source, folder, load, service.swap, lambda: _version(service.engine), service.metrics)
    if challenger is not None:
        tried = service.challengers = Challengers(
            settings.challenger_journal(name),
            Comparisons(settings.comparisons / name),
            lambda: service.engine.unfinished > 0,
            service.metrics,
            service.keeper(),
        )
        service.challenger_follower = Follower(
            challenger,
            folder / "challenger",
            load,
            tried.put,
            lambda: tried.version,
            tried.metrics,
            POLL_CHALLENGER_S,
            tried.clear,
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
    loaded = load_release(
        folder, version, check=check, threads=place.threads, keeping=place.keeping, processes=place.processes
    )
    if loaded.limits.keeping.hashed:
        salt(settings.journal_salt)  # that it can be used is found out now, not with the first request
    return loaded


def _version(engine: Engine) -> str | None:
    return engine.current.version if engine.current is not None else None


def _closes(close: Callable[[], None], wait_s: float) -> bool:
    """Close something on a thread, and wait so long for it; whether it did."""
    thread = threading.Thread(target=close, name="closing", daemon=True)
    thread.start()
    thread.join(wait_s)
    return not thread.is_alive()
