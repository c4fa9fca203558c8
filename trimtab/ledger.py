"""The one durable record of what was decided: append-only streams with compare-and-set, chained by hash.

A stream is a numbered list of JSON entries. Appending states the number one believes to be last (`expect_seq`); if
somebody else appended meanwhile the answer is `Conflict` and nothing is written. Each entry carries the SHA-256 of
its own canonical JSON and the hash before it, so an entry changed, removed or put in between later is found by
`check` (all but a cut-off tail, which only a copy of the last hash kept elsewhere can show).

    seq 1  hash_1 = sha256({prev: "", stream, seq: 1, time, entry})
    seq 2  hash_2 = sha256({prev: hash_1, stream, seq: 2, time, entry})
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from trimtab.candidate import digest_of
from trimtab.errors import Conflict, StateError

BUSY_TIMEOUT_MS = 30_000

_ENTRIES = sa.Table(
    "trimtab_ledger",
    sa.MetaData(),
    sa.Column("stream", sa.String(200), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time", sa.String(40), nullable=False),
    sa.Column("entry", sa.Text, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)


@dataclass(frozen=True)
class Entry:
    """One entry of a stream: its number (from 1), when (UTC, ISO 8601), what, and its link in the hash chain."""

    seq: int
    time: str
    entry: dict[str, Any]
    hash: str


def utc_now() -> datetime:
    """The clock used unless another is given."""
    return datetime.now(UTC)


class Ledger:
    """Streams of entries in SQLite or PostgreSQL; safe to use from threads and from many processes.

    Args:
        url: SQLAlchemy URL, e.g. "sqlite:////home/me/.trimtab/ledger.db" or "postgresql+psycopg2://…".
        clock: gives the time written into an entry, with a time zone.

    Raises:
        StateError: the database cannot be opened or written.
    """

    def __init__(self, url: str, clock: Callable[[], datetime] = utc_now) -> None:
        self.url, self._clock = url, clock
        with self._translated():
            parsed = sa.make_url(url)
            self._engine = (
                _sqlite(parsed)
                if parsed.get_backend_name() == "sqlite"
                else sa.create_engine(parsed, pool_pre_ping=True)
            )
        with self._writing("") as connection:
            connection.execute(CreateTable(_ENTRIES, if_not_exists=True))

    def record(self, stream: str, entry: dict[str, Any], expect_seq: int | None) -> int:
        """Append an entry; durable when this returns.

        Args:
            stream: name of the stream, e.g. "promotions/digits".
            entry: a JSON object; no NaN.
            expect_seq: number of the entry believed to be last (0 for an empty stream); None appends in any case.

        Returns:
            The number of the new entry.

        Raises:
            Conflict: the stream's last entry is another than expected; nothing was written.
            StateError: the entry is not JSON, or the database cannot be written.
        """
        text = _canonical(entry, stream)
        with self._writing(stream) as connection:
            last = connection.execute(
                sa.select(_ENTRIES.c.seq, _ENTRIES.c.hash)
                .where(_ENTRIES.c.stream == stream)
                .order_by(_ENTRIES.c.seq.desc())
                .limit(1)
            ).first()
            head, prev = (last.seq, last.hash) if last else (0, "")
            if expect_seq is not None and expect_seq != head:
                raise Conflict(
                    f"entry {head} is the last one, expected {expect_seq}",
                    where=f"ledger stream {stream}",
                    fix="read the stream again and decide anew",
                )
            row = {"stream": stream, "seq": head + 1, "time": self._clock().astimezone(UTC).isoformat()}
            connection.execute(_ENTRIES.insert().values(**row, entry=text, hash=_link(prev, row, json.loads(text))))
            return head + 1

    def read(self, stream: str, after: int = 0) -> list[Entry]:
        """The entries of a stream with a number above `after`, in order."""
        query = sa.select(_ENTRIES).where(_ENTRIES.c.stream == stream, _ENTRIES.c.seq > after).order_by(_ENTRIES.c.seq)
        return [Entry(row.seq, row.time, json.loads(row.entry), row.hash) for row in self._fetch(query)]

    def head(self, stream: str) -> int:
        """Number of the last entry; 0 for an empty stream."""
        query = sa.select(sa.func.max(_ENTRIES.c.seq)).where(_ENTRIES.c.stream == stream)
        return int(self._fetch(query)[0][0] or 0)

    def streams(self, prefix: str = "") -> list[str]:
        """Names of the streams that begin with `prefix`, sorted."""
        names = [str(row[0]) for row in self._fetch(sa.select(_ENTRIES.c.stream).distinct())]
        return sorted(name for name in names if name.startswith(prefix))

    def check(self, stream: str) -> None:
        """Verify the hash chain of a stream.

        Raises:
            StateError: an entry was changed, removed or inserted; names the first one that does not fit.
        """
        prev = ""
        query = sa.select(_ENTRIES).where(_ENTRIES.c.stream == stream).order_by(_ENTRIES.c.seq)
        for position, row in enumerate(self._fetch(query), start=1):
            if row.seq != position or not _fits(prev, row):
                raise StateError(
                    f"entry {position} was changed, removed or inserted after it was written",
                    where=f"ledger stream {stream}",
                    fix="restore the ledger from a backup taken before the change",
                )
            prev = row.hash

    def _fetch(self, query: sa.Select[Any]) -> list[Any]:
        with self._translated(), self._engine.connect() as connection:
            return list(connection.execute(query).all())

    @contextlib.contextmanager
    def _writing(self, stream: str) -> Iterator[sa.Connection]:
        """A write transaction that holds the stream's lock from its first statement to its commit."""
        with self._translated(), self._engine.connect() as connection:
            connection = connection.execution_options(trimtab_write=True)
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    key = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], signed=True)
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
                yield connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:  # a writer without our lock (another tool) took the number
            raise Conflict("somebody else appended first", where="ledger", fix="read again and decide anew") from None
        except (SQLAlchemyError, OSError, sqlite3.Error, ImportError) as error:
            reason = str(getattr(error, "orig", None) or error)
            raise StateError(
                f"the ledger cannot be used: {reason}",
                where=_without_password(self.url),
                fix="see that the folder or database exists and can be written (TRIMTAB_LEDGER_URL)",
            ) from error


def _sqlite(url: sa.URL) -> sa.Engine:
    """WAL for readers beside a writer, full sync for durability, one lock a write from its first statement.

    The driver's own transaction control is switched off: it would begin DEFERRED, and two such transactions that both
    read and then write fail with "database is locked" at once, whatever the busy timeout.
    """
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("trimtab_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _canonical(entry: dict[str, Any], stream: str) -> str:
    try:
        return json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StateError(f"the entry is not JSON: {error}", where=f"ledger stream {stream}") from None


def _link(prev: str, row: dict[str, Any], entry: Any) -> str:
    return digest_of({"prev": prev, "stream": row["stream"], "seq": row["seq"], "time": row["time"], "entry": entry})


def _fits(prev: str, row: Any) -> bool:
    try:
        entry = json.loads(row.entry)
    except ValueError:
        return False
    return bool(row.hash == _link(prev, {"stream": row.stream, "seq": row.seq, "time": row.time}, entry))


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "ledger URL"
