"""What was answered goes to the journal before the client hears of it; when the journal cannot, serving goes on."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from trimtab.journal.rows import LabelRow, Row
from trimtab.journal.wal import Journal, JournalError
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
    """

    def __init__(self, journal: Journal, metrics: Metrics, keeper: Keeper, wait_s: float = WAIT_S) -> None:
        self._journal, self._metrics, self._keeper, self._wait_s = journal, metrics, keeper, wait_s
        self._failing = False

    async def answered(
        self, loaded: Loaded, request_id: str, inputs: Mapping[str, Array], output: Array, latency_s: float
    ) -> Outcome:
        """Record the rows of an answer; returns when they are durable, or given up."""
        return await self._write(self._rows(loaded, request_id, inputs, latency_s, output, None))

    async def failed(
        self, loaded: Loaded, request_id: str, inputs: Mapping[str, Array], kind: str, latency_s: float
    ) -> Outcome:
        """Record the rows of a request the model failed on."""
        return await self._write(self._rows(loaded, request_id, inputs, latency_s, None, kind))

    async def labels(self, labels: list[LabelRow]) -> list[bool]:
        """Record labels; returns when they are durable, with which rows are known.

        Raises:
            JournalError: they are not recorded.
        """
        return await asyncio.wrap_future(self._journal.submit_labels(labels)) if labels else []

    def _rows(
        self,
        loaded: Loaded,
        request_id: str,
        inputs: Mapping[str, Array],
        latency_s: float,
        output: Array | None,
        error: str | None,
    ) -> list[Row]:
        count = len(next(iter(inputs.values())))
        kept = self._keeper.kept(loaded.limits.keeping, inputs)
        return list(_rows(loaded, request_id, count, kept, latency_s, output, error))

    async def _write(self, rows: list[Row]) -> Outcome:
        try:
            async with asyncio.timeout(self._wait_s):
                total = await asyncio.wrap_future(self._journal.submit(rows))
        except (JournalError, TimeoutError) as error:
            self._metrics.journal_shed.inc(len(rows))
            if not self._failing:  # once when it begins, not once a request
                _logger.error("the journal is shed: %s", error or "the disk is too slow")
            self._failing = True
            return "shed"
        if self._failing:
            _logger.warning("the journal is written again")
        self._failing = False
        self._metrics.journal_rows.set(total)
        return "durable"


def _rows(
    loaded: Loaded,
    request_id: str,
    count: int,
    kept: Mapping[str, Array] | None,
    latency_s: float,
    output: Array | None,
    error: str | None,
) -> Iterator[Row]:
    now, latency_ms = time.time_ns(), latency_s * 1000
    predicted, confidence = [-1] * count, [math.nan] * count
    if output is not None and loaded.regression:
        predicted = [0] * count  # there is no class; -1 would say that the model failed
    elif output is not None:
        predicted, confidence = output.argmax(axis=1).tolist(), output.max(axis=1).tolist()
    for row in range(count):
        yield Row(
            request_id=request_id,
            row=row,
            time_ns=now,
            version=loaded.version,
            inputs={name: values[row] for name, values in kept.items()} if kept is not None else None,
            output=output[row] if output is not None else (),
            predicted=predicted[row],
            confidence=confidence[row],
            latency_ms=latency_ms,
            status=200 if error is None else 500,
            error=error,
        )
