"""A client of the scoring service: sends images over HTTP as a client would, posts labels later, counts what failed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import numpy as np

from trimtab.data import Split

CONNECTIONS = 4


@dataclass
class Sent:
    """What came back for one batch of requests.

    Attributes:
        ids: request id a row. predicted: class a row, -1 where the request failed. versions: release version a row.
        failed: requests without a good answer.
    """

    ids: list[str]
    labels: list[int]
    predicted: list[int]
    versions: list[str]
    failed: int = 0

    @property
    def accuracy(self) -> float:
        """Share of answered rows whose class is the label."""
        hits = [p == label for p, label in zip(self.predicted, self.labels, strict=True) if p >= 0]
        return float(np.mean(hits)) if hits else float("nan")


def connect() -> httpx.Client:
    """A client for loopback, to be shared: each one made costs 35 ms of reading certificates nobody needs here."""
    return httpx.Client(timeout=30, trust_env=False)


def send(client: httpx.Client, url: str, split: Split, rows: Sequence[int] | None = None) -> Sent:
    """One request a row, a few connections at a time."""
    chosen = list(range(len(split))) if rows is None else list(rows)
    images = split.inputs["input"]
    ids = [f"{split.name}-{row}-{uuid.uuid4().hex[:8]}" for row in chosen]
    sent = Sent(ids, [int(split.labels[row]) for row in chosen], [-1] * len(chosen), [""] * len(chosen))
    with ThreadPoolExecutor(CONNECTIONS) as pool:

        def ask(index: int) -> None:
            body = {"instances": images[chosen[index]][None].tolist()}
            try:
                answer = client.post(f"{url}/invocations", json=body, headers={"X-Request-Id": ids[index]})
                answer.raise_for_status()
                sent.predicted[index] = int(np.argmax(answer.json()["predictions"]["probabilities"][0]))
                sent.versions[index] = answer.headers["X-Trimtab-Version"]
            except (httpx.HTTPError, KeyError, ValueError):
                sent.failed += 1

        list(pool.map(ask, range(len(chosen))))
    return sent


def post_labels(client: httpx.Client, url: str, sent: Sent) -> None:
    """The truth, later, by request id."""
    labels = [
        {"request_id": request, "row": 0, "label": label}
        for request, label, predicted in zip(sent.ids, sent.labels, sent.predicted, strict=True)
        if predicted >= 0
    ]
    client.post(f"{url}/labels", json=labels).raise_for_status()


@dataclass
class Trickle:
    """A few requests a second in the background, to see that none fails while a release is swapped.

    Leave the block, or see another version answer, and it stops.
    """

    client: httpx.Client
    url: str
    split: Split
    stop_at_version: str
    per_second: float = 2.0
    failed: int = 0
    answered: int = 0
    first_of_version: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Trickle:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        row = 0
        while not self._stop.wait(1 / self.per_second):
            sent = send(self.client, self.url, self.split, [row % len(self.split)])
            self.failed += sent.failed
            self.answered += 1 - sent.failed
            if not sent.failed:
                try:
                    post_labels(self.client, self.url, sent)
                except httpx.HTTPError:
                    self.failed += 1
            if sent.versions[0] == self.stop_at_version:
                self.first_of_version = True
                return
            row += 1
