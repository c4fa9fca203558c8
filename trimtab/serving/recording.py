"""What was answered goes to the journal before the client hears of it; when the journal cannot, serving goes on.

    model ──► journal ──► event loop

An answer takes this way without coming by the loop in between, for waking a thread costs more than writing a row. For
that reason the model's thread does the writing too while no request waits for it; under load the journal's thread does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import numpy as np

from trimtab.journal.exchanges import Exchange
from trimtab.journal.rows import LabelRow
from trimtab.journal.wal import Journal, JournalError
from trimtab.serving.calls import Answer
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
        self.wait_s, self._counts_rows = wait_s, counts_rows
        self._failing, self._synced = False, synced
        self._handover = Handover()

    async def answered(
        self, loaded: Loaded, request_id: str, inputs: Mapping[str, Array], output: Array, latency_s: float
    ) -> Outcome:
        """Record the rows of an answer; returns when they are durable, or given up."""
        return await self._write(loaded, self._exchange(loaded, request_id, inputs, latency_s, output, None))

    def give(
        self,
        loaded: Loaded,
        request_id: str,
        inputs: Mapping[str, Array],
        output: Array,
        latency_s: float,
        settle: Callable[[int | Exception], None],
    ) -> None:
        """Give the rows of an answer to the journal, on any thread; `push` has them written.

        Args:
            settle: told on any thread how many rows the journal holds with them, or why they are not in it.
        """
        try:
            exchange = self._exchange(loaded, request_id, inputs, latency_s, output, None)
            self._submit(loaded, exchange, settle, wake=False)
        except Exception as error:
            settle(error)

    def push(self, here: bool) -> None:
        """Have what was given written: on this thread, or by the journal's own. Raises nothing."""
        try:
            if here:
                self._journal.write()
            else:
                self._journal.wake()
        except Exception:  # the model's thread must not end with it; whoever waits gives up in time
            _logger.exception("the journal failed")

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

    def _submit(
        self, loaded: Loaded, exchange: Exchange, settle: Callable[[int | Exception], None], *, wake: bool = True
    ) -> None:
        synced = self._synced or loaded.limits.keeping.acknowledge == "synced"
        self._journal.submit_exchange(exchange, settle, synced=synced, wake=wake)

    async def _write(self, loaded: Loaded, exchange: Exchange) -> Outcome:
        loop = self._handover.here()
        landing: asyncio.Future[int] = loop.create_future()
        limit = loop.call_later(self.wait_s, _give_up, landing)
        try:
            self._submit(loaded, exchange, partial(self._handover.give, _land, landing))
            return self.note(exchange.count, await landing)
        except (JournalError, TimeoutError) as error:
            return self.note(exchange.count, error)
        finally:
            limit.cancel()

    def note(self, count: int, outcome: int | Exception) -> Outcome:
        """Count what became of an answer's rows, and log where it begins and ends that they are lost; on any thread.

        Args:
            count: of its rows. outcome: how many the journal holds with them, or why they are not in it.
        """
        if isinstance(outcome, Exception):
            self._metrics.journal_shed.inc(count)
            if not self._failing:  # once when it begins, not once a request
                known = isinstance(outcome, (JournalError, TimeoutError))
                _logger.error("the journal is shed: %s", outcome, exc_info=None if known else outcome)
            self._failing = True
            return "shed"
        if self._failing:
            _logger.warning("the journal is written again")
        self._failing = False
        if self._counts_rows:
            self._metrics.journal_rows.set(outcome)
        return "durable"


class Landing:
    """One answer between the model's thread and the loop, which sees that it is not held up for long.

    Args:
        request_id: asked once the request was read. arrived: seconds of `time.perf_counter`.
        late: called on the loop where there is no answer after `wait_s`, or the journal has not taken it.
    """

    def __init__(
        self,
        recorder: Recorder,
        loaded: Loaded,
        request_id: Callable[[], str],
        arrived: float,
        late: Callable[[], None],
    ) -> None:
        self._recorder, self._loaded, self._late = recorder, loaded, late
        self._request_id, self._arrived = request_id, arrived
        self._once: _Once | None = None
        self._loop = asyncio.get_running_loop()
        self._watch = self._loop.call_later(recorder.wait_s, self._look)

    def keep(self, inputs: Mapping[str, Array], answer: Answer, tell: Callable[[Outcome], None]) -> None:
        """Give the answer's rows to the journal, which tells."""
        output = answer.outputs[self._loaded.output]
        self._once = once = _Once(self._recorder, len(output), tell)
        latency = time.perf_counter() - self._arrived
        self._recorder.give(self._loaded, self._request_id(), inputs, output, latency, once.settle)

    def after(self, idle: bool) -> None:
        """Have them written, with those of other requests that shared the call."""
        self._recorder.push(idle)

    def close(self) -> None:
        """Nobody waits for it any more; on the loop."""
        self._watch.cancel()

    def _look(self) -> None:
        once, wait_s = self._once, self._recorder.wait_s
        left_s = 0.0 if once is None else once.since + wait_s - time.monotonic()
        if left_s <= 0:
            self._late()
        if once is not None and left_s <= 0:
            once.settle(_slow())
        else:
            self._watch = self._loop.call_later(left_s if left_s > 0 else wait_s, self._look)


class _Once:
    """Whoever is first tells the outcome, and nobody after it: the journal, or the loop where the disk is too slow.

    The journal holds it for a while after the answer; so it must not hold the release.
    """

    def __init__(self, recorder: Recorder, rows: int, tell: Callable[[Outcome], None]) -> None:
        self._recorder, self._rows, self._tell = recorder, rows, [tell]
        self.since = time.monotonic()

    def settle(self, outcome: int | Exception) -> None:
        """Tell it, on any thread."""
        try:
            tell = self._tell.pop()  # by one thread only
        except IndexError:
            return
        tell(self._recorder.note(self._rows, outcome))


def _give_up(landing: asyncio.Future[int]) -> None:
    if not landing.done():
        landing.set_exception(_slow())


def _slow() -> TimeoutError:
    return TimeoutError("the disk is too slow")


def _land(landing: asyncio.Future[int], outcome: int | JournalError) -> None:
    if landing.done():
        return  # the answer did not wait so long
    if isinstance(outcome, JournalError):
        landing.set_exception(outcome)
    else:
        landing.set_result(outcome)
