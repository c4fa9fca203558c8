"""Ordinary clients: each answer is compared with what the version that it names answers."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.soak.world import ASKED, QUESTIONS

TOLERANCE = 1e-5


@dataclass
class Tally:
    """What came back. `failed`: no answer, or not 200. `mismatched`: not what the version named answers.

    Attributes:
        versions: answers by version. durable: ids of requests that were acknowledged as durable.
        why: failures by kind.
    """

    answered: int = 0
    failed: int = 0
    mismatched: int = 0
    shed: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    durable: list[str] = field(default_factory=list)
    why: Counter[str] = field(default_factory=Counter)


class Load:
    """Clients that ask one question after the other until the block ends.

    Args:
        port: of the service. expected: version → answers to `ASKED`.
        prefix: request ids begin with it.
        forgiving: connections that break are opened again and not counted (the service is being killed).
    """

    def __init__(
        self, port: int, expected: Mapping[str, np.ndarray], prefix: str, clients: int = 4, forgiving: bool = False
    ) -> None:
        self.port, self.expected, self.prefix, self.forgiving = port, expected, prefix, forgiving
        self.tally = Tally()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index,), daemon=True) for index in range(clients)]
        self._bodies = [json.dumps({"instances": row.tolist()}).encode() for row in ASKED[:, None, :]]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        number = 0
        while not self._stop.is_set():
            number += 1
            name, question = f"{self.prefix}-{client}-{number}", number % QUESTIONS
            headers = {"Content-Type": "application/json", "X-Request-Id": name}
            try:
                connection.request("POST", "/invocations", self._bodies[question], headers)
                answer = connection.getresponse()
                self._count(name, question, answer.status, answer.headers, answer.read())
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if self.forgiving:
                    self._stop.wait(0.02)
                else:
                    self._fail(type(error).__name__)
        connection.close()

    def _count(self, name: str, question: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if status != 200:
            if not (self.forgiving and status == 503):  # started again, and nothing is loaded yet
                self._fail(str(status))
            return
        version = headers["X-Trimtab-Version"]
        given = np.array(json.loads(body)["predictions"]["probabilities"][0])
        wrong = version not in self.expected or np.abs(given - self.expected[version][question]).max() > TOLERANCE
        with self._lock:
            self.tally.answered += 1
            self.tally.mismatched += int(wrong)
            self.tally.versions[version] += 1
            if headers["X-Trimtab-Journal"] == "durable":
                self.tally.durable.append(name)
            else:
                self.tally.shed += 1

    def _fail(self, why: str) -> None:
        with self._lock:
            self.tally.failed += 1
            self.tally.why[why] += 1
