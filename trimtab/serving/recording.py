"""What was answered goes to the journal before the client hears of it; when the journal cannot, serving goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Literal

import numpy as np

from trimtab.journal.rows import LabelRow, RowBlock
from trimtab.journal.wal import Journal, JournalError
from trimtab.serving.handover import Handover
from trimtab.serving.keeping import Keeper
from trimtab.serving.metrics import Metrics
from trimtab.serving.release import Loaded

Array = np.ndarray
Outcome = Literal["durable", "shed"]
WAIT_S = 5.0
_logger = logging.getLogger(__name__)


class Recorder:
    """Writes rows and labels of one service.

    Args:
        journal: open for writing. metrics: where shed rows are counted.
        keeper: decides what of the inputs is written.
        wait_s: longest an answer waits for a slow disk before it goes out as "shed".
        counts_rows: whether the metric of the journal's rows is this journal's.
    """

    def __init__(
        self, journal: Journal, metrics: Metrics, keeper: Keeper, wait_s: float = WAIT_S, *, counts_rows: bool = True
    ) -> None:
        self._journal, self._metrics, self._keeper = journal, metrics, keeper
        self._wait_s, self._counts_rows = wait_s, counts_rows
        self._failing = False
        self._handover = Handover()

    async def answered(
        self, loaded: Loaded, request_id: str, inputs: Mapping[str, Array], output: Array, latency_s: float
    ) -> Outcome:
        """Record the rows of an answer; returns when they are durable, or given up."""
        return await self._write(self._block(loaded, request_id, inputs, latency_s, output, None))

    async def failed(
        self, loaded: Loaded, request_id: str, inputs: Mapping[str, Array], kind: str, latency_s: float
    ) -> Outcome:
        """Record the rows of a request the model failed on."""
        return await self._write(self._block(loaded, request_id, inputs, latency_s, None, kind))

    async def labels(self, labels: list[LabelRow]) -> list[bool]:
        """Record labels; returns when they are durable, with which rows are known.

        Raises:
            JournalError: they are not recorded.
        """
        return await asyncio.wrap_future(self._journal.submit_labels(labels)) if labels else []

    def _block(
        self,
        loaded: Loaded,
        request_id: str,
        inputs: Mapping[str, Array],
        latency_s: float,
        output: Array | None,
        error: str | None,
    ) -> RowBlock:
        count = len(next(iter(inputs.values())))
        kept = self._keeper.kept(loaded.limits.keeping, inputs)
        return _block(loaded, request_id, count, kept, latency_s, output, error)

    async def _write(self, block: RowBlock) -> Outcome:
        loop = self._handover.here()
        landing: asyncio.Future[int] = loop.create_future()
        limit = loop.call_later(self._wait_s, _give_up, landing)
        try:
            self._journal.submit_block(block).add_done_callback(partial(self._handover.give, _land, landing))
            total = await landing
        except (JournalError, TimeoutError) as error:
            self._metrics.journal_shed.inc(len(block))
            if not self._failing:  # once when it begins, not once a request
                _logger.error("the journal is shed: %s", str(error) or "the disk is too slow")
            self._failing = True
            return "shed"
        finally:
            limit.cancel()
        if self._failing:
            _logger.warning("the journal is written again")
        self._failing = False
        if self._counts_rows:
            self._metrics.journal_rows.set(total)
        return "durable"


def _give_up(landing: asyncio.Future[int]) -> None:
    if not landing.done():
        landing.set_exception(TimeoutError())


def _land(landing: asyncio.Future[int], written: Future[int]) -> None:
    error = written.exception()
    if landing.done():
        return  # the answer did not wait so long
    if error is None:
        landing.set_result(written.result())
    else:
        landing.set_exception(error)


def _block(
    loaded: Loaded,
    request_id: str,
    count: int,
    kept: Mapping[str, Array] | None,
    latency_s: float,
    output: Array | None,
    error: str | None,
) -> RowBlock:
    """The rows of a request as the journal takes them; without an output, because of an error."""
    predicted, confidence = np.full(count, -1, np.int32), np.full(count, np.nan)
    if output is not None and loaded.regression:
        predicted[:] = 0  # there is no class; -1 would say that the model failed
    elif output is not None:
        predicted, confidence = output.argmax(axis=1).astype(np.int32), output.max(axis=1).astype(np.float64)
    return RowBlock(
        offset=np.zeros(count, np.int64),  # the journal gives it
        request_id=[request_id] * count,
        row=np.arange(count, dtype=np.int32),
        time_ns=np.full(count, time.time_ns(), np.int64),
        version=[loaded.version] * count,
        predicted=predicted,
        confidence=confidence,
        latency_ms=np.full(count, latency_s * 1000),
        status=np.full(count, 200 if error is None else 500, np.int32),
        error=[error] * count,
        output=np.empty((count, 0), np.float32) if output is None else output.astype(np.float32, copy=False),
        inputs=dict(sorted(kept.items())) if kept is not None else {},
    )
