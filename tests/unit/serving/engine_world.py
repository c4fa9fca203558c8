"""What the tests of the engine share: a small model, a release of it, a service played with over HTTP in one loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np

from trimtab.serving.app import build
from trimtab.serving.limits import Limits
from trimtab.serving.plan import Plan
from trimtab.serving.release import Loaded
from trimtab.serving.service import Service

SHARING = Plan(shares=True, took=(0.0, *[1.0 + 0.01 * n for n in range(1, 65)]), max_wait_s=100.0)


def spec(*shape: int | str) -> dict[str, Any]:
    """Of a model with one float input of this shape a row, which answers three probabilities."""
    return {
        "inputs": [{"name": "input", "dtype": "float32", "shape": ["batch", *shape]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}],
    }


class Softmax:
    """Softmax of the first three values of a row; `before` is called first and may block or raise.

    Attributes:
        calls: number of rows of each call.
    """

    def __init__(self, before: Callable[[Any], None] = lambda inputs: None, reentrant: bool = True, shape=(3,)):
        self.before, self.reentrant, self.spec = before, reentrant, spec(*shape)
        self.calls: list[int] = []

    def predict(self, inputs):
        self.calls.append(len(inputs["input"]))
        self.before(inputs)
        logits = inputs["input"].reshape(len(inputs["input"]), -1)[:, :3]
        exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
        return {"probabilities": (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)}


def loaded(version: str = "1", predictor: Any = None, plan: Plan | None = None, **limits: Any) -> Loaded:
    """A release of it."""
    facts = {"candidate": "abc", "target": "onnxruntime-cpu", "precision": "fp32", "classes": 3}
    return Loaded("tiny", version, predictor or Softmax(), Limits(**limits), facts, time.time_ns(), plan=plan or Plan())


def play(service: Service, script: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """Run a script of requests against the application, then close the service; what the script returns."""

    async def run() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(build(service)), base_url="http://t") as client:
            return await script(client)

    try:
        return asyncio.run(run())
    finally:
        service.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something the test has set in motion."""
    while not condition():
        await asyncio.sleep(0.002)
