"""From a request's bytes to its answer: read, queue, call the model, write; a bounded queue, immutable releases.

The model is called by its release's workers, never on the event loop. Small bodies are read, and small
answers written, on the loop itself: both hold the interpreter's lock anyway, and a change of threads costs more.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import orjson

from trimtab.serving.calls import Answer, Job
from trimtab.serving.failures import Busy, ModelFailure, Unwanted
from trimtab.serving.handover import Handover
from trimtab.serving.patience import Patience
from trimtab.serving.protocol import parse
from trimtab.serving.release import Loaded
from trimtab.serving.workers import Workers

__all__ = ["Busy", "Engine", "ModelFailure", "Scored", "encode"]
Array = np.ndarray
Parse = Callable[[], Mapping[str, Array]]
Encode = Callable[[Mapping[str, Array]], bytes]
Told = tuple[Answer, Any]  # an answer, and what its `Keep` said
Result = TypeVar("Result")
SMALL_BODY, SMALL_ANSWER = 2**18, 2**13  # bytes, numbers: a millisecond of the loop at most
CLOSE_S = 10.0


class Keep(Protocol):
    """What an answer passes between the model's thread and the loop. It raises nothing."""

    def keep(self, inputs: Mapping[str, Array], answer: Answer, tell: Callable[[Any], None]) -> None:
        """Told of the answer on the model's thread; calls `tell`, on any thread, with what its caller is to know."""

    def after(self, idle: bool) -> None:
        """All answers of the call were told of; on the model's thread, which may be `idle` and have time."""


@dataclass(frozen=True)
class Scored:
    """An answer: what was asked, the probabilities (n, classes) or numbers (n, k), and the body to send.

    Attributes:
        predict_s: seconds of the call of the model, which may have answered other requests as well.
        kept: what was said by who was told of the answer on its way; None where nobody was.
    """

    inputs: Mapping[str, Array]
    output: Array
    body: bytes
    predict_s: float
    kept: Any = None


class Engine:
    """Holds the release that answers. `swap` may be called from any thread, the rest from the event loop.

    Attributes:
        unfinished: requests being read, waiting, or in the model; work, not callers: one that gave up still occupies
            the model. finished: those the model is done with.
        called: told of each call of the model how many requests shared it; on any thread.
    """

    def __init__(self) -> None:
        self._current: Loaded | None = None
        self._workers: dict[int, Workers] = {}
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._began: dict[int, float] = {}
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._handover = Handover()
        self.unfinished = self.finished = 0
        self.called: Callable[[int], None] = lambda requests: None

    @property
    def current(self) -> Loaded | None:
        """The release that answers the next request."""
        return self._current

    def swap(self, loaded: Loaded) -> None:
        """Answer with another release from the next request on; those under way finish on theirs.

        Raises:
            ValueError: its predictor takes one thread, its plan has several.
        """
        if loaded.plan.workers > 1 and not loaded.predictor.reentrant:
            target, workers = loaded.facts.get("target"), loaded.plan.workers
            raise ValueError(f"the predictor of {target} takes one thread, not {workers}")
        self._workers_of(loaded)  # its threads are there before its first request
        before, self._current = self._current, loaded
        if before is not None and before is not loaded:
            self._workers_of(before).retire()

    @property
    def longest_s(self) -> float:
        """How long the oldest call under way has run; large when the model hangs."""
        return time.monotonic() - min(self._began.copy().values(), default=time.monotonic())

    @property
    def dead(self) -> bool:
        """Whether a thread that calls the model has ended; nothing starts it again."""
        with self._lock:
            return any(crew.dead for crew in self._workers.values())

    def admit(self, loaded: Loaded) -> None:
        """Refuse early.

        Raises:
            Busy: as many requests wait as the release allows, or no process is alive that could answer.
        """
        if loaded.pool is not None and loaded.pool.bereft_s > 0:
            raise Busy("the model's processes have ended and are started again")
        if self.unfinished >= loaded.limits.max_queue + loaded.plan.workers:
            wait_s = self.wait_s(loaded)
            raise Busy(f"{self.unfinished} requests are waiting", retry_s=max(math.ceil(wait_s or 0), 1))

    def wait_s(self, loaded: Loaded) -> float | None:
        """Seconds after which a request of now would be taken up, from measured calls; None where none were."""
        row_s = loaded.plan.row_s
        return None if row_s is None else self.unfinished * row_s / loaded.plan.workers

    async def score(
        self,
        loaded: Loaded,
        body: bytes,
        content_type: str | None,
        patience: Patience | None = None,
        keep: Keep | None = None,
    ) -> Scored:
        """Read a request of MLflow's protocol and answer it.

        Raises:
            Busy, Unwanted, ModelFailure: as `submit`. ProtocolError: the request cannot be read.
        """
        read = partial(parse, body, content_type, loaded.predictor.spec)
        return await self.submit(loaded, read, encode, size=len(body), patience=patience, keep=keep)

    async def submit(
        self,
        loaded: Loaded,
        parse: Parse,
        encode: Encode,
        *,
        size: int | None = None,
        patience: Patience | None = None,
        keep: Keep | None = None,
    ) -> Scored:
        """Answer a request of any form.

        Args:
            parse: gives the checked inputs, name → (batch, ...). encode: gives the answer's body of outputs by name.
            size: bytes that `parse` reads; where it is not told, `parse` runs off the event loop.
            patience: how long the answer is wanted; by default for ever.
            keep: what the answer passes on its way from the model's thread: the loop is woken once, not before and
                after.

        Raises:
            Busy: the queue is full. ModelFailure: the model failed. Unwanted: nobody waits any more.
            Exception: whatever `parse` and `encode` raise.
        """
        self.admit(loaded)
        patience = patience or Patience()
        patience.check()
        with self._counting:
            self.unfinished += 1
        try:
            inputs = await self._done(parse, size is not None and size <= SMALL_BODY)
            queued = self._queue(loaded, inputs, patience, keep)
        except BaseException:
            with self._counting:
                self.unfinished -= 1
            raise
        answer, kept = await _wanted(queued, patience)
        output, numbers = answer.outputs[loaded.output], sum(values.size for values in answer.outputs.values())
        body = await self._done(partial(encode, answer.outputs), numbers <= SMALL_ANSWER)
        return Scored(inputs, output, body, answer.seconds, kept)

    def relieve(self) -> None:
        """Replace threads that hang with what an answer passes on its way."""
        with self._lock:
            crews = list(self._workers.values())
        for crew in crews:
            crew.relieve()

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Finish what is under way; a model that hangs is not waited for longer than this."""
        with self._lock:
            crews = list(self._workers.values())
        for crew in crews:
            crew.retire()
        until = time.monotonic() + wait_s
        for crew in crews:
            crew.join(until)
        self._aside.shutdown(wait=True)

    def _queue(
        self, loaded: Loaded, inputs: Mapping[str, Array], patience: Patience, keep: Keep | None
    ) -> asyncio.Future[Told]:
        future: asyncio.Future[Told] = self._handover.here().create_future()
        after = None if keep is None else keep.after
        job = Job(inputs, patience, partial(self._settle, future, inputs, keep), after)
        while not (crew := self._workers_of(loaded)).put(job):
            pass  # they ended just now, after a swap
        if loaded is not self._current:
            crew.retire()
        return future

    def _settle(
        self,
        future: asyncio.Future[Told],
        inputs: Mapping[str, Array],
        keep: Keep | None,
        outcome: Answer | ModelFailure | Unwanted,
    ) -> None:
        """The model is done with a request; on its thread."""
        with self._counting:
            self.finished += 1
            self.unfinished -= 1
        tell = partial(self._handover.give, _tell, future, outcome)
        if keep is not None and isinstance(outcome, Answer):
            keep.keep(inputs, outcome, tell)
        else:
            tell(None)

    async def _done(self, work: Callable[[], Result], here: bool) -> Result:
        return work() if here else await asyncio.get_running_loop().run_in_executor(self._aside, work)

    def _workers_of(self, loaded: Loaded) -> Workers:
        with self._lock:
            crew = self._workers.get(id(loaded))
            if crew is None:
                crew = self._workers[id(loaded)] = Workers(loaded, self._began, self.called, self._forget)
            return crew

    def _forget(self, ended: Workers) -> None:
        with self._lock:
            if self._workers.get(id(ended.loaded)) is ended:
                del self._workers[id(ended.loaded)]


def _tell(future: asyncio.Future[Told], outcome: Answer | ModelFailure | Unwanted, kept: Any) -> None:
    if future.done():
        return  # its caller gave up
    if isinstance(outcome, Answer):
        future.set_result((outcome, kept))
    else:
        future.set_exception(outcome)


async def _wanted(queued: asyncio.Future[Told], patience: Patience) -> Told:
    """The answer, unless the deadline passes first; when this ends without one, the model need not be asked."""
    try:
        if patience.expires is None:
            return await queued
        async with asyncio.timeout(patience.left_s()):
            return await queued
    except TimeoutError:
        raise Unwanted(gone=False) from None
    finally:
        patience.gone |= queued.cancelled()


def encode(outputs: Mapping[str, Array]) -> bytes:
    """The answer's body, {"predictions": {name: nested lists}}: the same numbers as the stock server writes.

    It widens float32 to Python floats, so 0.1 becomes 0.10000000149011612; the shortest float32 form would be
    another number to a client.
    """
    wide = {name: values.astype(np.float64) if values.dtype.kind == "f" else values for name, values in outputs.items()}
    contiguous = {name: np.ascontiguousarray(values) for name, values in wide.items()}
    return orjson.dumps({"predictions": contiguous}, option=orjson.OPT_SERIALIZE_NUMPY)
