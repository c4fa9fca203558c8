"""Files of candidates in the state directory: written aside, then renamed, so a folder is whole or absent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from trimtab.errors import Conflict, StateError


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digests(folder: Path) -> dict[str, str]:
    """Relative POSIX path → SHA-256 of every file below a folder, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def matches(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether the folder holds exactly these files with these digests."""
    return folder.is_dir() and folder_digests(folder) == dict(files)


def sync_folder(folder: Path) -> None:
    """fsync every file below a folder and the folders themselves."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A temporary folder that becomes `final` in one rename when the block ends well, replacing what was there.

    Raises:
        StateError: the state directory cannot be written.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    except OSError as error:
        raise StateError(f"cannot be written: {error.strerror}", where=str(final.parent)) from None
    try:
        yield draft
        sync_folder(draft)
        _replace(draft, final)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(draft: Path, final: Path) -> None:
    if final.exists():
        old = Path(tempfile.mkdtemp(prefix=f".old-{final.name}-", dir=final.parent))
        os.replace(final, old / "was")
        os.replace(draft, final)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(draft, final)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old or the new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


@contextlib.contextmanager
def os_lock(path: Path, *, wait: bool, what: str) -> Iterator[None]:
    """An flock on `path`; the kernel frees it when the process dies, so no stale lock is left by `kill -9`.

    Args:
        wait: block until it is free; otherwise raise at once.
        what: what is locked, for the message.

    Raises:
        Conflict: somebody else holds it and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Conflict(
                f"{what} is already running", where=str(path), fix="wait until it ends, or cancel it"
            ) from None
        yield
