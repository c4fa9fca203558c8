"""The run of a batch: what is not durable yet is scored part by part, then the output appears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from trimtab.candidate import digest_of
from trimtab.errors import Conflict, DataError, RecipeError, StateError
from trimtab.registry.package import release_key
from trimtab.scoring_batch.answering import Answering
from trimtab.scoring_batch.columns import Columns, choose
from trimtab.scoring_batch.dataset import Dataset, Part, Reader, open_dataset, plan
from trimtab.scoring_batch.order import Order
from trimtab.scoring_batch.results import Results, bad_rows, results
from trimtab.scoring_batch.rows import Piece, pieces
from trimtab.scoring_batch.work import Work, open_work
from trimtab.serving.release import Loaded

PART_ROWS = 65_536
PART_BYTES = 2**26  # of answers; all of a part is held until it is written
EXAMPLES = 5
Progress = Callable[[int, int, str], None]  # rows done, rows in all, a word


@dataclass(frozen=True)
class Summary:
    """What came of a batch.

    Attributes:
        bad: rows without an answer. examples: the first few of them, in words.
        resumed: rows that an earlier run had done. sha256: of the output.
    """

    name: str
    version: int
    output: str
    rows: int
    bad: int
    resumed: int
    sha256: str
    examples: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dict, JSON-safe."""
        return {**self.__dict__, "examples": list(self.examples)}


@dataclass(eq=False)
class Batch:
    """An order with everything that was opened for it, under the lock of its output."""

    order: Order
    loaded: Loaded
    dataset: Dataset
    columns: Columns
    results: Results
    parts: list[Part]
    work: Work
    resumed: int

    @cached_property
    def key(self) -> str:
        """What identifies the batch: release, input and options, not where the output goes."""
        return digest_of(dict(self.work.job))

    def score(self, answering: Answering, progress: Progress) -> None:
        """Score and write every part that is not durable yet.

        Raises:
            DataError: a row cannot be scored (with `on_error: fail`), or the input cannot be read.
            StateError: the model fails on everything, or the disk is full; what is durable stays.
        """
        if self.work.is_published():
            return
        reader = Reader(self.dataset, self.columns.read, self.order.batch_rows)
        progress(self.work.rows, self.dataset.rows, "rows")
        for index, part in enumerate(self.parts):
            if index not in self.work.done:
                self._score_part(index, part, reader, answering)
                progress(self.work.rows, self.dataset.rows, f"rows, {self.work.bad} without an answer")

    def publish(self) -> Summary:
        """Let the output appear, and the folder of parts go.

        Raises:
            Conflict: the input was changed meanwhile.
        """
        examples = tuple(one for _, done in sorted(self.work.done.items()) for one in done.examples)[:EXAMPLES]
        rows, bad = self.work.rows, self.work.bad
        if self.work.is_published():
            self.work.remove()
        else:
            self._check_unchanged()
            self.work.publish(self.results.schema, {**self.work.job, "rows": rows, "bad": bad})
        sha256 = str(self.work.published)
        return Summary(
            self.order.name, self.order.version, str(self.order.output), rows, bad, self.resumed, sha256, examples
        )

    def _score_part(self, index: int, part: Part, reader: Reader, answering: Answering) -> None:
        tables: list[pa.Table] = []
        bad: list[Piece] = []
        examples: list[str] = []
        for span in part:
            for first, batch in reader.read(span):
                before = span.first + first - span.start
                found: list[Piece] = []
                for piece in pieces(batch, self.columns, self.loaded.predictor.spec, answering, self._named(before)):
                    if piece.output is None:
                        where = self.dataset.place(span, first + piece.start)
                        self._refuse(where, piece)
                        examples.append(f"{where}: {piece.reason}")
                    found.append(piece)
                tables.append(self.results.table(batch, found))
                bad += bad_rows(found)
        table = pa.concat_tables(tables) if tables else self.results.schema.empty_table()
        if len(bad) == len(table) and all(piece.by_model for piece in bad):
            raise StateError(
                f"the model fails on all of {len(bad)} rows: {bad[0].reason}",
                where=f"{self.order.name} version {self.order.version}",
                fix="see that this release runs here; nothing of these rows was written",
            )
        self.work.keep(index, table, len(bad), tuple(examples[:EXAMPLES]))

    def _refuse(self, where: str, piece: Piece) -> None:
        if self.order.on_error == "fail":
            raise DataError(
                piece.reason,
                where=where,
                fix="mend the row and start again, or leave such rows without an answer: --on-error null",
            )

    def _named(self, before: int) -> Callable[[int, int], str]:
        prefix = f"score-{self.key[:16]}"
        return lambda start, stop: f"{prefix}-{before + start}-{stop - start}"

    def _check_unchanged(self) -> None:
        now = [source.said() for source in open_dataset(self.order.inputs).sources]
        if now != self.work.job["inputs"]:
            raise Conflict(
                "was changed while it was read", where=str(self.order.inputs), fix="begin again with --restart"
            )


@contextmanager
def open_batch(order: Order, loaded: Loaded, folder: Path, *, restart: bool = False) -> Iterator[Batch]:
    """Check all that can be checked before a row is scored, and take the output's lock.

    Args:
        folder: of the release. restart: throw away what an earlier run did.

    Raises:
        DataError: the input cannot be read, or does not have the columns that the model takes.
        RecipeError: an option does not fit. Conflict: see `work.open_work`.
    """
    if order.inputs.is_dir() and order.output.resolve().is_relative_to(order.inputs.resolve()):
        raise RecipeError("lies in the input's folder", where=str(order.output), fix="choose another --output")
    dataset = open_dataset(order.inputs)
    columns = choose(dataset.schema, loaded.predictor.spec, order.keys, order.ignored)
    written = results(loaded, order, dataset.schema)
    parts = plan(dataset, part_rows(written.width, order.batch_rows))
    inputs = [source.said() for source in dataset.sources]
    job = {**order.said(), "release_key": release_key(folder), "features": list(columns.model), "inputs": inputs}
    with open_work(order.output, job, restart=restart) as work:
        yield Batch(order, loaded, dataset, columns, written, parts, work, work.rows)


def part_rows(width: int, batch_rows: int) -> int:
    """Rows of a part: whole batches, about 65,536 rows, fewer where the answers are wide."""
    most = min(PART_ROWS, PART_BYTES // (4 * width + 64))
    return max(1, most // batch_rows) * batch_rows
