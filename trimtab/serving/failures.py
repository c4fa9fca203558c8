"""Why a sound request gets no answer: too much is waiting, nobody waits for it any more, or the model failed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trimtab.errors import TrimtabError
from trimtab.runtime.child import WorkerFailed

Array = np.ndarray


class Busy(TrimtabError):
    """The queue is full; try again in a moment.

    Args:
        retry_s: when there will probably be room, whole seconds.
    """

    def __init__(self, what: str, retry_s: int = 1) -> None:
        super().__init__(what)
        self.retry_s = retry_s


class TooMany(Busy):
    """This client has more unfinished requests than one may have; others are still served."""


class Unwanted(TrimtabError):
    """Nobody waits for the answer any more, so the model was not asked, or its answer was dropped.

    Args:
        gone: whether the client went away; else its deadline passed.
    """

    def __init__(self, gone: bool) -> None:
        super().__init__("the client went away" if gone else "the deadline passed before there was an answer")
        self.gone = gone


class ModelFailure(TrimtabError):
    """The model raised, or answered something that is not a probability.

    Args:
        kind: type of the error, for counting. inputs: what it was asked.
    """

    def __init__(self, kind: str, inputs: Mapping[str, Array]) -> None:
        super().__init__(f"the model failed ({kind})")
        self.kind, self.inputs = kind, inputs


def kind_of(error: BaseException) -> str:
    """What a predictor's error is called, in this process or in a worker's."""
    return error.kind if isinstance(error, WorkerFailed) else type(error).__name__
