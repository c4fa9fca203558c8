"""The folder a run is resumed from: parts of the output, each whole or absent, and a manifest that names them.

    .scores.parquet.scoring/       beside scores.parquet; gone when that is there
        lock                       held by the run (flock: the kernel frees it when the process dies)
        manifest.json              the batch, and file, rows and SHA-256 of every part that is durable
        part-00000.parquet         rows of the output, in their order

A part counts when the manifest names it and its bytes are those. The output is made of all parts beside its final
name, synced, written down in the manifest, and renamed; so it is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trimtab.errors import Conflict, StateError
from trimtab.store import file_digest, os_lock, write_atomic

MANIFEST, LOCK = "manifest.json", "lock"


@dataclass(frozen=True)
class Done:
    """A part that is durable.

    Attributes:
        rows, bad: rows in it, and those without an answer. examples: the first of these, in words.
    """

    file: str
    rows: int
    bad: int
    sha256: str
    examples: tuple[str, ...] = ()


@dataclass
class Work:
    """The folder of one output, opened under its lock."""

    output: Path
    job: Mapping[str, Any]
    done: dict[int, Done] = field(default_factory=dict)
    published: str | None = None

    @property
    def folder(self) -> Path:
        """Where the parts are."""
        return _folder(self.output)

    @property
    def bad(self) -> int:
        """Rows without an answer so far."""
        return sum(part.bad for part in self.done.values())

    @property
    def rows(self) -> int:
        """Rows that are durable."""
        return sum(part.rows for part in self.done.values())

    def is_published(self) -> bool:
        """Whether the output is there, as the run that made it wrote down before it gave it its name."""
        return self.published is not None and self.output.is_file() and file_digest(self.output) == self.published

    def keep(self, index: int, table: pa.Table, bad: int, examples: tuple[str, ...]) -> None:
        """Write a part, and then that it is there.

        Raises:
            StateError: the disk does not take it.
        """
        name = f"part-{index:05d}.parquet"
        with _writable(self.folder):
            draft = self.folder / f"{name}.draft"
            pq.write_table(table, draft)
            _move(draft, self.folder / name)
            self.done[index] = Done(name, len(table), bad, file_digest(self.folder / name), examples)
            self._write()

    def publish(self, schema: pa.Schema, told: Mapping[str, Any]) -> None:
        """Make the output of the parts and take the folder away.

        Args:
            schema: of the output. told: JSON that goes into the file's metadata under "trimtab".

        Raises:
            StateError: the disk does not take it.
        """
        draft = self.folder / "output.draft"
        with _writable(self.output.parent):
            with pq.ParquetWriter(draft, schema.with_metadata({"trimtab": json.dumps(told)})) as writer:
                for index in sorted(self.done):
                    with pq.ParquetFile(self.folder / self.done[index].file) as part:
                        for group in range(part.num_row_groups):
                            writer.write_table(part.read_row_group(group).cast(schema))
            self.published = file_digest(draft)
            self._write()
            _move(draft, self.output)
        self.remove()

    def remove(self) -> None:
        """Take the folder away; the manifest last, so that a kill in between leaves what says that all is done."""
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name in (MANIFEST, LOCK)):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self) -> None:
        parts = {str(index): asdict(part) for index, part in sorted(self.done.items())}
        value = {"job": self.job, "parts": parts, "published": self.published}
        write_atomic(self.folder / MANIFEST, json.dumps(value, indent=1).encode())


@contextlib.contextmanager
def open_work(output: Path, job: Mapping[str, Any], *, restart: bool = False) -> Iterator[Work]:
    """The folder of an output, locked: new, or as the last run of the same batch left it.

    Args:
        job: what the batch is, JSON-safe. restart: throw away what an earlier run did.

    Raises:
        Conflict: another run makes this output; an earlier one of another batch was not finished; or the output exists.
        StateError: the folder cannot be written, or its manifest cannot be read.
    """
    folder = _folder(output)
    with _writable(output.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with os_lock(folder / LOCK, wait=False, what=f"a run that makes {output.name}"):
        if restart:
            _clear(folder)
        work = _resumed(output, folder, job) or Work(output, job)
        if output.exists() and not work.is_published():
            if not work.done:
                shutil.rmtree(folder, ignore_errors=True)
            raise Conflict("exists already", where=str(output), fix="choose another --output, or remove it")
        yield work


def _resumed(output: Path, folder: Path, job: Mapping[str, Any]) -> Work | None:
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
        before, published = found["job"], found["published"]
        done = {
            int(index): Done(**{**part, "examples": tuple(part["examples"])}) for index, part in found["parts"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(
            f"cannot be read ({type(error).__name__}: {error})", where=str(path), fix="begin again with --restart"
        ) from None
    if differing := sorted(key for key in {*before, *job} if before.get(key) != job.get(key)):
        raise Conflict(
            f"an unfinished run made it of another {', '.join(differing)}: {_differences(before, job, differing)}",
            where=str(output),
            fix="finish that run by the same command, or throw its parts away with --restart",
        )
    work = Work(output, job, done, published)
    if not work.is_published():  # its parts are deleted one by one
        work.done = {index: part for index, part in done.items() if _is_whole(folder / part.file, part)}
    return work


def _is_whole(path: Path, part: Done) -> bool:
    return path.name == part.file and path.is_file() and file_digest(path) == part.sha256


def _differences(before: Mapping[str, Any], job: Mapping[str, Any], keys: list[str]) -> str:
    shown = [f"{key} {before.get(key)!r} then, {job.get(key)!r} now" for key in keys if key != "inputs"]
    return "; ".join([*shown, *(["files were added, removed or written since"] if "inputs" in keys else [])])


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK:
            path.unlink(missing_ok=True)


def _move(draft: Path, final: Path) -> None:
    """Give a file its name once its bytes are on disk; the name is then synced too."""
    with draft.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(draft, final)
    handle = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StateError(
            f"cannot be written: {error}",
            where=str(folder),
            fix="free space or mend permissions, then start the run again: it goes on where it was",
        ) from None


def _folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.scoring")
