"""A typed client of the scoring service, for programs that ask it: numpy, httpx and orjson, and nothing of the rest.

    with ScoringClient("http://127.0.0.1:8080") as service:
        answer = service.predict(np.zeros((2, 64), np.float32))
        answer.outputs["probabilities"], answer.version

`wire` is what goes over the wire, `retrying` when to try again, `calls` each call as steps that know no network, and
`clients` drives the steps, once blocking and once for asyncio.
"""

from trimtab.client.clients import AsyncScoringClient, ScoringClient
from trimtab.client.errors import (
    BadAnswer,
    DeadlineExceeded,
    ModelFailed,
    NotAllowed,
    Refused,
    ScoringError,
    Unavailable,
)
from trimtab.client.retrying import Retries
from trimtab.client.wire import Answer, Label, LabelCounts, Served

__all__ = [
    "Answer",
    "AsyncScoringClient",
    "BadAnswer",
    "DeadlineExceeded",
    "Label",
    "LabelCounts",
    "ModelFailed",
    "NotAllowed",
    "Refused",
    "Retries",
    "ScoringClient",
    "ScoringError",
    "Served",
    "Unavailable",
]
