"""What a batch is asked to do, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trimtab.errors import RecipeError

OnError = Literal["fail", "null"]
Keep = Literal["nothing", "journal", "service"]
ON_ERROR: tuple[OnError, ...] = ("fail", "null")
BATCH_ROWS = 1024
MOST_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Order:
    """A batch.

    Attributes:
        name, version: the release.
        inputs: a Parquet file, or a folder whose *.parquet files are read in the order of their names.
        output: the Parquet file that is made; it must not exist.
        keys: columns of the input that are copied into the output.
        ignored: columns that are no features, where the model's one input is spread over columns.
        batch_rows: rows a call of the model.
        on_error: what a row that cannot be scored does: stop the run, or stand in the output without an answer.
        keep: whether rows go to the journal: written here, or by the service that answers them.
        threads: of the runtime; None: the release's own.
    """

    name: str
    version: int
    inputs: Path
    output: Path
    keys: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    batch_rows: int = BATCH_ROWS
    on_error: OnError = "fail"
    keep: Keep = "nothing"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Raises RecipeError: a value that cannot be meant."""
        if not 1 <= self.batch_rows <= MOST_BATCH_ROWS:
            raise _wrong(f"{self.batch_rows} rows", "--batch-rows", f"give 1 to {MOST_BATCH_ROWS}")
        if self.on_error not in ON_ERROR:
            raise _wrong(f"{self.on_error!r}", "--on-error", f"give {' or '.join(ON_ERROR)}")
        if self.threads is not None and self.threads < 1:
            raise _wrong(f"{self.threads} threads", "--threads", "give 1 or more")
        if repeated := sorted({key for key in self.keys if self.keys.count(key) > 1}):
            raise _wrong(f"{repeated} twice", "--key", "name each column once")
        if self.output.suffix != ".parquet":
            raise _wrong("is not called *.parquet", str(self.output), "Parquet is what is written")

    def said(self) -> dict[str, Any]:
        """What makes it this batch and no other, JSON-safe; the input's files and the release's key come to it."""
        return {
            "name": self.name,
            "version": self.version,
            "keys": list(self.keys),
            "ignored": list(self.ignored),
            "batch_rows": self.batch_rows,
            "on_error": self.on_error,
            "keep": self.keep,
        }


def _wrong(what: str, where: str, fix: str) -> RecipeError:
    return RecipeError(what, where=where, fix=fix)
