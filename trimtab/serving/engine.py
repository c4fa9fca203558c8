"""One request at a time through the model, off the event loop, with a bounded queue and an immutable release."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import orjson

from trimtab.errors import TrimtabError
from trimtab.serving.protocol import parse
from trimtab.serving.release import Loaded

Array = np.ndarray
Parse = Callable[[], Mapping[str, Array]]
Encode = Callable[[Mapping[str, Array]], bytes]


class Busy(TrimtabError):
    """The queue is full; try again in a moment."""


class ModelFailure(TrimtabError):
    """The model raised, or answered something that is not a probability.

    Args:
        kind: type of the error, for counting. inputs: what it was asked.
    """

    def __init__(self, kind: str, inputs: Mapping[str, Array]) -> None:
        super().__init__(f"the model failed ({kind})")
        self.kind, self.inputs = kind, inputs


@dataclass(frozen=True)
class Scored:
    """An answer: what was asked, the probabilities (n, classes) or numbers (n, k), and the body to send."""

    inputs: Mapping[str, Array]
    output: Array
    body: bytes
    predict_s: float


class Engine:
    """Holds the release that answers. `swap` may be called from any thread, the rest from the event loop.

    Args:
        workers: threads that run the model; more than one only helps where its runtime leaves cores idle.
    """

    def __init__(self, workers: int = 1) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="model")
        self._workers = workers
        self._current: Loaded | None = None
        self._began: dict[int, float] = {}
        self.unfinished = self.finished = 0

    @property
    def current(self) -> Loaded | None:
        """The release that answers the next request."""
        return self._current

    def swap(self, loaded: Loaded) -> None:
        """Answer with another release from the next request on; those under way finish on theirs."""
        if self._workers > 1 and not loaded.predictor.reentrant:
            raise ValueError(f"the predictor of {loaded.facts.get('target')} takes one thread, not {self._workers}")
        self._current = loaded

    @property
    def longest_s(self) -> float:
        """How long the oldest call under way has run; large when the model hangs."""
        return time.monotonic() - min(self._began.copy().values(), default=time.monotonic())

    @property
    def dead(self) -> bool:
        """Whether a thread that runs the model has ended; nothing starts it again."""
        return any(not thread.is_alive() for thread in tuple(self._pool._threads))

    def admit(self, loaded: Loaded) -> None:
        """Refuse early.

        Raises:
            Busy: as many requests wait as the release allows.
        """
        if self.unfinished >= loaded.limits.max_queue + self._workers:
            raise Busy(f"{self.unfinished} requests are waiting")

    async def score(self, loaded: Loaded, body: bytes, content_type: str | None) -> Scored:
        """Read a request of MLflow's protocol and answer it.

        Raises:
            Busy: the queue is full. ProtocolError: the request cannot be read. ModelFailure: the model failed.
        """
        spec = loaded.predictor.spec
        return await self.submit(loaded, partial(parse, body, content_type, spec), encode)

    async def submit(self, loaded: Loaded, parse: Parse, encode: Encode) -> Scored:
        """Answer a request of any form, off the event loop.

        Args:
            parse: gives the checked inputs, name → (batch, ...). encode: gives the answer's body of outputs by name.

        Raises:
            Busy: the queue is full. ProtocolError: what `parse` raised. ModelFailure: the model failed.
        """
        self.admit(loaded)
        self.unfinished += 1
        job = asyncio.get_running_loop().run_in_executor(self._pool, self._run, loaded, parse, encode)
        job.add_done_callback(self._finish)  # counts work, not callers: one that hangs up still occupies the model
        return await asyncio.shield(job)

    def close(self) -> None:
        """Finish what is under way."""
        self._pool.shutdown(wait=True)

    def _run(self, loaded: Loaded, parse: Parse, encode: Encode) -> Scored:
        me = threading.get_ident()
        self._began[me] = time.monotonic()
        try:
            return _score(loaded, parse, encode)
        finally:
            del self._began[me]

    def _finish(self, job: asyncio.Future[Scored]) -> None:
        self.unfinished -= 1
        self.finished += 1
        if not job.cancelled():
            job.exception()  # looked at, so that a caller that hung up leaves no "never retrieved" in the log


def _score(loaded: Loaded, parse: Parse, encode: Encode) -> Scored:
    inputs = parse()
    start = time.perf_counter()
    try:
        outputs = loaded.predictor.predict(inputs)
        output = outputs[loaded.output]
    except Exception as error:  # a runtime raises whatever it likes; the request was sound, so it is the model's
        raise ModelFailure(type(error).__name__, inputs) from error
    predict_s = time.perf_counter() - start
    rows = len(next(iter(inputs.values())))
    if output.ndim != 2 or len(output) != rows:
        raise ModelFailure("WrongShape", inputs)
    if not all(np.isfinite(values).all() for values in outputs.values()):
        raise ModelFailure("NotFinite", inputs)
    return Scored(inputs, output, encode(outputs), predict_s)


def encode(outputs: Mapping[str, Array]) -> bytes:
    """The answer's body, {"predictions": {name: nested lists}}: the same numbers as the stock server writes.

    It widens float32 to Python floats, so 0.1 becomes 0.10000000149011612; the shortest float32 form would be
    another number to a client.
    """
    wide = {name: values.astype(np.float64) if values.dtype.kind == "f" else values for name, values in outputs.items()}
    contiguous = {name: np.ascontiguousarray(values) for name, values in wide.items()}
    return orjson.dumps({"predictions": contiguous}, option=orjson.OPT_SERIALIZE_NUMPY)
