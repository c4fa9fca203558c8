"""Throughput: as many callers as asked where that is allowed, and a failing one is heard."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from trimtab.verify.throughput import throughput

ROWS = {"input": np.zeros((6, 3), np.float32)}


class Sleeper:
    """Answers after five milliseconds, in which others can ask; remembers how many asked at once."""

    def __init__(self, reentrant: bool) -> None:
        self.reentrant, self.now, self.most, self.lock = reentrant, 0, 0, threading.Lock()

    def predict(self, inputs: dict[str, np.ndarray]) -> None:
        assert len(inputs["input"]) == 2
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.005)
        with self.lock:
            self.now -= 1


def test_a_reentrant_predictor_is_asked_by_all_callers_and_another_by_one() -> None:
    many, alone = Sleeper(True), Sleeper(False)
    found = throughput({"many": many, "alone": alone}, ROWS, callers=4, batch=2, turn_s=0.05)
    assert (found["many"].callers, many.most) == (4, 4)
    assert (found["alone"].callers, alone.most) == (1, 1)
    assert found["many"].per_s > 2 * found["alone"].per_s
    assert found["alone"].low <= found["alone"].per_s <= found["alone"].high <= 200


def test_a_predictor_that_fails_is_not_waited_for() -> None:
    class Broken(Sleeper):
        def predict(self, inputs: dict[str, np.ndarray]) -> None:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        throughput({"x": Broken(True)}, ROWS, callers=3, batch=2)
