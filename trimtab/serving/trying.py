"""One request on its lane: the challenger first where it is the challenger's share, the champion where that fails.

A client whose request happened to be the challenger's share must not pay for a bad challenger: what it fails on, cannot
read or takes too long for is answered by the champion, and if the champion can, it counts as the challenger's error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from starlette.background import BackgroundTask

from trimtab.errors import ProtocolError
from trimtab.journal.outcomes import Outcome
from trimtab.serving.challenger import RESCUE_S
from trimtab.serving.compare import Copy
from trimtab.serving.engine import Scored
from trimtab.serving.failures import Busy, ModelFailure
from trimtab.serving.lane import Lane
from trimtab.serving.routing import CHALLENGER, is_shadowed
from trimtab.serving.service import Service


class Failed(Exception):
    """The model failed on the request; `lane` says which, `cause` how."""

    def __init__(self, lane: Lane, cause: ModelFailure) -> None:
        super().__init__(str(cause))
        self.lane, self.cause = lane, cause


@dataclass(frozen=True)
class Answered:
    """An answer, and what the challenger had to do with it.

    Attributes:
        lane: where it was answered.
        tried: version of the challenger that had the request, None for none. error: what it failed with, None if it
            answered.
    """

    lane: Lane
    scored: Scored
    tried: str | None = None
    error: str | None = None


Ask = Callable[[Lane], Awaitable[Scored]]


async def score(service: Service, lane: Lane, ask: Ask) -> Answered:
    """Answer a request on its lane.

    Args:
        ask: puts the request to a lane's release.

    Raises:
        Busy, ProtocolError: as `Engine.score`. Failed: the model that had to answer failed.
    """
    if lane.rescue is None or service.challengers is None:
        return await _on(lane, ask)
    try:
        async with asyncio.timeout(RESCUE_S):
            return await _on(lane, ask)
    except (Busy, ProtocolError, Failed, TimeoutError) as error:
        kind = error.cause.kind if isinstance(error, Failed) else type(error).__name__
        service.challengers.metrics.rescued.labels("busy" if isinstance(error, Busy) else "failed").inc()
        lane.rescue.admit()
        answered = await _on(lane.rescue, ask)
        return answered if isinstance(error, Busy) else replace(answered, tried=lane.loaded.version, error=kind)


def afterwards(service: Service, request_id: str, answered: Answered) -> BackgroundTask | None:
    """What is to be done once the answer is sent: note what the challenger did, or hand it a copy; None for nothing."""
    challengers, lane, scored = service.challengers, answered.lane, answered.scored
    if challengers is None:
        return None
    challengers.metrics.answers.labels(lane.alias).inc()
    if answered.tried is not None:
        note(service, answered.tried, request_id, len(scored.output), answered.error)
        return None
    seat = service.seat
    if seat is None or not is_shadowed(request_id, seat.trial):
        return None
    copy = Copy(request_id, lane.loaded, scored.inputs, scored.output, scored.predict_s)

    async def offer() -> None:
        if not seat.shadow.offer(copy):
            challengers.metrics.shadow.labels("dropped").inc()

    return BackgroundTask(offer)


def note(service: Service, tried: str, request_id: str, rows: int, error: str | None) -> None:
    """Have it written down that a challenger had a request: that it answered, or what it failed with.

    Args:
        tried: its version.
    """
    champion, challengers = service.engine.current, service.challengers
    seat = None if challengers is None else challengers.current
    if champion is None or challengers is None or seat is None or champion.version == tried:
        return
    outcome = Outcome("canary", champion.version, tried, request_id, time.time_ns(), rows, error)
    if not seat.shadow.note(outcome):
        challengers.metrics.shadow.labels("lost").inc()


async def _on(lane: Lane, ask: Ask) -> Answered:
    try:
        scored = await ask(lane)
    except ModelFailure as error:
        raise Failed(lane, error) from error
    return Answered(lane, scored, lane.loaded.version if lane.alias == CHALLENGER else None)
