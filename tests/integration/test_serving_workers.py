"""The model in worker processes of a real service: killed under load, swapped under load, and gone at the end."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter

import httpx
import numpy as np
import psutil
import pytest
from test_serving_process import ROWS, FakeMlflow, process, wait_for_version, write_release

from trimtab.journal.reader import end, window
from trimtab.registry.keys import Keyring
from trimtab.registry.signing import sign_folder
from trimtab.settings import Settings

pytestmark = pytest.mark.integration
KILLS = 5
WEIGHTS = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)  # as `write_release` draws them


def expected(image: np.ndarray) -> np.ndarray:
    exponent = np.exp(image.reshape(1, 16) @ WEIGHTS)
    return exponent / exponent.sum()


def workers(service: psutil.Process) -> list[psutil.Process]:
    """Worker processes that run; their command names what they are."""
    found = []
    for child in service.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "in a worker process" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Asker(threading.Thread):
    """Asks one image after the other, each another one, and compares the answers.

    Attributes:
        durable: request id → status, of what was acknowledged as journalled.
    """

    def __init__(self, name: str, address: httpx.URL) -> None:
        super().__init__(name=name)
        self.address, self.stop = address, threading.Event()
        self.statuses: Counter[int] = Counter()
        self.durable: dict[str, int] = {}
        self.mixed: list[str] = []

    def run(self) -> None:
        draw = np.random.default_rng(sum(self.name.encode()))
        with httpx.Client(base_url=self.address, timeout=60) as client:
            while not self.stop.is_set():
                self.ask(client, f"{self.name}-{self.statuses.total()}", draw.normal(size=(1, 4, 4)).astype(np.float32))

    def ask(self, client: httpx.Client, name: str, image: np.ndarray) -> None:
        answer = client.post("/invocations", json={"instances": [image.tolist()]}, headers={"X-Request-Id": name})
        self.statuses[answer.status_code] += 1
        if answer.headers.get("x-trimtab-journal") == "durable":
            self.durable[name] = answer.status_code
        if answer.status_code == 200:
            found = np.array(answer.json()["predictions"]["probabilities"])
            if not np.allclose(found, expected(image), atol=1e-4):
                self.mixed.append(name)


def test_kill_9_of_workers_under_load_loses_no_acknowledged_row_and_mixes_no_answer(tmp_path):
    release = write_release(tmp_path / "one", 1)
    arguments = ("--home", str(tmp_path), "--release-folder", str(release), "--processes", "2")
    with process("trimtab.serving", *arguments) as (child, client):
        wait_for_version(client, "0")
        assert client.get("/version").json()["plan"]["processes"] == 2
        service = psutil.Process(child.pid)
        askers = [Asker(f"asker-{number}", client.base_url) for number in range(4)]
        for asker in askers:
            asker.start()
        draw = random.Random(0)
        for _ in range(KILLS):
            wait_for(lambda: len(workers(service)) == 2 and client.get("/ready").status_code == 200)
            before = sum(asker.statuses[200] for asker in askers)
            wait_for(lambda before=before: sum(asker.statuses[200] for asker in askers) > before + 20)
            draw.choice(workers(service)).kill()
        wait_for(lambda: f'deaths_total{{alias="champion"}} {KILLS}.0' in client.get("/metrics").text)
        wait_for(lambda: "trimtab_processes 2.0" in client.get("/metrics").text)
        for asker in askers:
            asker.stop.set()
        for asker in askers:
            asker.join(60)
        assert child.poll() is None
        last = workers(service)
        for worker in last:
            worker.terminate()  # as who ends a whole group does; they have requests to answer yet
        assert client.post("/invocations", json=ROWS).status_code == 200
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
        assert not psutil.wait_procs(last, 10)[1]
    statuses = sum((asker.statuses for asker in askers), Counter())
    assert set(statuses) <= {200, 500, 503}
    assert not [name for asker in askers for name in asker.mixed]
    journal = tmp_path / "journal" / "tiny"
    found = window(journal, 0, end(journal))
    kept = dict(zip(found.request_id, zip(found.status, found.error, strict=True), strict=True))
    acknowledged = {name: status for asker in askers for name, status in asker.durable.items()}
    assert len(acknowledged) == statuses[200] + statuses[500]
    assert {name: kept[name][0] for name in acknowledged} == acknowledged
    assert {kept[name][1] for name, status in acknowledged.items() if status == 500} <= {"WorkerDied"}


def test_all_workers_switch_or_none(tmp_path):
    mlflow = FakeMlflow()
    mlflow.folders = {
        1: write_release(tmp_path / "one", 1),
        2: write_release(tmp_path / "two", 2),
        3: write_release(tmp_path / "three", 3, spoil=True),
    }
    for folder in mlflow.folders.values():
        sign_folder(folder, "tiny", Keyring(Settings.load(tmp_path / "home").signing_keys))
    arguments = ("--home", str(tmp_path / "home"), "--mlflow", mlflow.address, "--processes", "2")
    statuses, versions, stop = [], [], threading.Event()
    with process("deployments.scoring", *arguments) as (child, client):
        service = psutil.Process(child.pid)
        mlflow.champion = 1
        wait_for_version(client, "1")
        first = {worker.pid for worker in workers(service)}

        def ask() -> None:
            with httpx.Client(base_url=client.base_url, timeout=60) as own:
                while not stop.is_set():
                    answer = own.post("/invocations", json=ROWS)
                    statuses.append(answer.status_code)
                    versions.append(answer.headers["x-trimtab-version"])

        asker = threading.Thread(target=ask)
        asker.start()
        mlflow.champion = 2
        wait_for_version(client, "2")
        wait_for(lambda: not first & {worker.pid for worker in workers(service)})
        second = {worker.pid for worker in workers(service)}
        mlflow.champion = 3
        wait_for(lambda: client.get("/version").json()["refused"] is not None)
        reason = client.get("/version").json()["refused"]["reason"]
        mlflow.champion = 2
        wait_for(lambda: {worker.pid for worker in workers(service)} == second)  # none of the refused is left
        stop.set()
        asker.join(60)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    mlflow.shutdown()
    mlflow.server_close()
    assert len(first) == len(second) == 2
    assert "differ from the recorded" in reason
    assert set(statuses) == {200}
    assert versions == sorted(versions)
    assert set(versions) == {"1", "2"}
