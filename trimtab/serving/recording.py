"""What was answered goes to the journal before the client hears of it; when the journal cannot, serving goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np

from trimtab.journal.exchanges import Exchange
from trimtab.journal.rows import LabelRow
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
        synced: whether answers wait for a sync whatever their release says.
    """

    def __init__(
        self,
        journal: Journal,
        metrics: Metrics,
        keeper: Keeper,
        wait_s: float = WAIT_S,
        *,
        counts_rows: bool = True,
        synced: bool = False,
    ) -> None:
        self._journal, self._metrics, self._keeper = journal, metrics, keeper
        self._wait_s, self._counts_rows = wait_s, counts_rows
        self._failing, self._synced = False, synced
        self._handover = Handover()

    async def answered(
        self, loaded: Loaded, request_id: str, inputs: Mapping[str, Array], output: Array, latency_s: float
    ) -> Outcome:
        """Record the rows of an answer; returns when they are durable, or given up."""
        return await self._write(loaded, self._exchange(loaded, request_id, inputs, latency_s, output, None))

    async def failed(
        self, loaded: Loaded, request_id: str, inputs: Mapping[str, Array], kind: str, latency_s: float
    ) -> Outcome:
        """Record the rows of a request the model failed on."""
        return await self._write(loaded, self._exchange(loaded, request_id, inputs, latency_s, None, kind))

    async def labels(self, labels: list[LabelRow]) -> list[bool]:
        """Record labels; returns when they are durable, with which rows are known.

        Raises:
            JournalError: they are not recorded.
        """
        return await asyncio.wrap_future(self._journal.submit_labels(labels)) if labels else []

    def _exchange(
        self,
        loaded: Loaded,
        request_id: str,
        inputs: Mapping[str, Array],
        latency_s: float,
        output: Array | None,
        error: str | None,
    ) -> Exchange:
        count = len(next(iter(inputs.values())))
        kept = self._keeper.kept(loaded.limits.keeping, inputs) or {}
        version, now = loaded.version, time.time_ns()
        return Exchange(request_id, version, count, now, latency_s * 1000, kept, output, error, loaded.regression)

    async def _write(self, loaded: Loaded, exchange: Exchange) -> Outcome:
        loop = self._handover.here()
        landing: asyncio.Future[int] = loop.create_future()
        limit = loop.call_later(self._wait_s, _give_up, landing)
        try:
            synced = self._synced or loaded.limits.keeping.acknowledge == "synced"
            self._journal.submit_exchange(exchange, partial(self._handover.give, _land, landing), synced=synced)
            total = await landing
        except (JournalError, TimeoutError) as error:
            self._metrics.journal_shed.inc(exchange.count)
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


def _land(landing: asyncio.Future[int], outcome: int | JournalError) -> None:
    if landing.done():
        return  # the answer did not wait so long
    if isinstance(outcome, JournalError):
        landing.set_exception(outcome)
    else:
        landing.set_result(outcome)
