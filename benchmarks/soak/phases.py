"""What is done to the service, one after the other; each returns what it saw."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.soak.clocked import set_offset
from benchmarks.soak.hostile import Seen, flood, weighing
from benchmarks.soak.load import Load, Tally
from benchmarks.soak.world import Scoring, World, wait_for
from trimtab.journal.reader import end, window
from trimtab.journal.wal import Journal

DAY_S = 86_400.0
FAULT_S = 8.0
PARTS = 5  # of the flood; the first warms up
DISK = "8m"
TINY = 64  # bytes a file may have, where no small disk can be mounted


def promotions(world: World, count: int) -> Tally:
    """So many promotions and rollbacks in turn, each waited for until it is served, under load."""
    first, second = sorted(world.expected, key=int)
    with Scoring(world, world.folder / "promotions").running() as service, _load(service, "promotion") as load:
        for number in range(count):
            wanted = second if number % 2 == 0 else first
            world.promote(wanted) if number % 2 == 0 else world.rollback()
            wait_for(f"version {wanted}", lambda wanted=wanted: service.says()["version"] == wanted, 60)
            time.sleep(0.2)
    return load.tally


def registry_faults(world: World) -> tuple[Tally, dict[str, Any]]:
    """The registry refuses, then takes seconds for each step of a promotion; both under load."""
    first, second = sorted(world.expected, key=int)
    world.promote(first)
    with Scoring(world, world.folder / "registry-faults").running() as service, _load(service, "registry") as load:
        world.proxy.down = True
        wait_for("the registry is missed", lambda: service.says()["registry_error"] is not None)
        time.sleep(FAULT_S)
        world.proxy.down = False
        wait_for("the registry is back", lambda: service.says()["registry_error"] is None)
        world.proxy.delay_s = 2.0
        world.promote(second)
        wait_for("a slow promotion", lambda: service.says()["version"] == second)
        world.proxy.delay_s = 0.0
        world.rollback()
        wait_for("the way back", lambda: service.says()["version"] == first)
    return load.tally, {"down": "went on, and noticed it", "slow": "followed all the same"}


def kills(world: World, count: int) -> tuple[int, int]:
    """`kill -9` under load, so many times; how many acknowledged rows there were, and how many the journal lacks."""
    draw, service = random.Random(0), Scoring(world, world.folder / "kills")
    acknowledged: list[str] = []
    with service.running():
        for number in range(count):
            with Load(service.port, world.expected, f"kill-{number}", forgiving=True) as load:
                time.sleep(draw.uniform(1.0, 3.0))
                service.kill()
            acknowledged += load.tally.durable
            service.start()
    return len(acknowledged), missing(service, acknowledged)


def described(world: World) -> str:
    """Schemathesis on the service's own OpenAPI page: what it says of 5xx; or why it was not run.

    Raises:
        SystemExit: it found one.
    """
    if importlib.util.find_spec("schemathesis") is None:
        return "not run: schemathesis is not installed"
    with Scoring(world, world.folder / "described").running() as service:
        page = f"{service.url}/openapi.json"
        if httpx.get(page, timeout=10).status_code != httpx.codes.OK:
            return "not run: the service has no /openapi.json"
        command = [sys.executable, "-m", "schemathesis.cli", "run", page, "--checks", "not_a_server_error"]
        done = subprocess.run([*command, "--max-examples", "200"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"schemathesis found a server error:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    return "no server error"


def hostile(world: World, count: int) -> tuple[Seen, float, dict[str, float]]:
    """Hostile requests in five parts; the growth of memory from the second, when it is warm, to the last.

    Bodies of megabytes come and go all the time, so medians over whole parts are compared, not moments.
    """
    with Scoring(world, world.folder / "hostile").running() as service:
        assert service.process is not None
        process = psutil.Process(service.process.pid)
        seen, weights = Seen(), []
        for part in range(PARTS):
            with weighing(process) as samples:
                seen.add(flood(service.port, count // PARTS, seed=part + 1))
            weights.append(statistics.median(samples))
        with _load(service, "after") as load:
            time.sleep(1.0)
        if load.tally.failed or load.tally.mismatched or not load.tally.answered:
            raise SystemExit(f"after the flood ordinary requests fail: {load.tally.why}")
        code = service.stop()
    if code:
        raise SystemExit(f"after the flood SIGTERM ended the service with code {code}")
    return seen, weights[-1] / weights[1] - 1, {f"part {part + 1}": weight for part, weight in enumerate(weights)}


def full_disk(world: World) -> tuple[Tally, dict[str, Any]]:
    """The journal's disk is full for a while: answers go out, marked; then it takes rows again."""
    service = Scoring(world, world.folder / "full-disk")
    folder = service.home / "journal"
    folder.mkdir(parents=True)
    with _small_disk(folder) as mounted:
        with service.running(), _load(service, "disk") as load:
            time.sleep(1.0)
            with _filled(folder) if mounted else _no_room(service):
                before = load.tally.shed
                wait_for("rows are shed", lambda: load.tally.shed > before)
                time.sleep(2.0)
            durable = len(load.tally.durable)
            wait_for("rows are durable again", lambda: len(load.tally.durable) > durable)
        lost = missing(service, load.tally.durable)
    how = "a small tmpfs" if mounted else "RLIMIT_FSIZE: nothing could be mounted"
    return load.tally, {"how": how, "shed": load.tally.shed, "lost": lost}


def clock_jump(world: World) -> tuple[Tally, dict[str, Any]]:
    """The wall clock jumps a year ahead, then two days back; then a promotion must still be followed."""
    first, second = sorted(world.expected, key=int)
    world.promote(first)
    clock = world.folder / "clock"
    set_offset(clock, 0.0)
    service = Scoring(world, world.folder / "clock-jump", clock)
    with service.running(), _load(service, "clock") as load:
        for seconds in (0.0, 366 * DAY_S, -2 * DAY_S, 0.0):
            set_offset(clock, seconds)
            answered = load.tally.answered
            wait_for("answers go on", lambda answered=answered: load.tally.answered > answered + 50)
        world.promote(second)
        wait_for("a promotion after it", lambda: service.says()["version"] == second)
    return load.tally, {"lost": missing(service, load.tally.durable)}


def missing(service: Scoring, acknowledged: Sequence[str]) -> int:
    """How many of the requests that were acknowledged as durable the journal does not hold, as the next start finds it
    after a kill; nobody writes it now."""
    Journal(service.journal).close()
    held = set(window(service.journal, 0, end(service.journal)).request_id.tolist())
    return sum(name not in held for name in acknowledged)


def _load(service: Scoring, prefix: str) -> Load:
    return Load(service.port, service.world.expected, prefix)


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """A disk of a few megabytes at the folder, where this user may mount one; whether it is there."""
    options = ["-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """No byte is free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"\0" * 4096)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def _no_room(service: Scoring) -> Iterator[None]:
    """No file of the service may grow: as with a full disk, a write takes a part or nothing."""
    assert service.process is not None
    before = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (TINY, before[1]))
    try:
        yield
    finally:
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, before)


def user() -> str:
    """For the record: what was mounted depends on it."""
    return "root" if os.geteuid() == 0 else "not root"
