"""Ports on loopback: the remembered one, else the usual one, else a free one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deployments.stack.guard import Guard

HOST = "127.0.0.1"
Free = Callable[[int], bool]


@dataclass(frozen=True)
class Ports:
    """The ports of the stack; the defaults are the ones people of each tool expect."""

    prefect: int = 4200
    mlflow: int = 5000
    evidently: int = 8000
    supervisor: int = 9001
    scoring: Mapping[str, int] = field(default_factory=dict)  # release name → port
    stock: tuple[str, ...] = ()  # releases on stock `mlflow models serve`
    guards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # release name → `Guard` as JSON
    pinned: Mapping[str, str] = field(default_factory=dict)  # name of a service → what it serves, e.g. "digits/3"

    def all(self) -> list[int]:
        """Every port."""
        return [getattr(self, name) for name in SINGLE] + list(self.scoring.values())


SINGLE = ("prefect", "mlflow", "evidently", "supervisor")
USUAL = Ports()
USUAL_SCORING = 8080


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: connections in TIME_WAIT do not count, another listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(last: Ports, releases: Iterable[str], free: Free = is_free) -> Ports:
    """A free port for each service, all different.

    Args:
        last: what the last `up` used; kept where it is still free.
        releases: names of the releases to serve.
        free: whether a port can be had.
    """
    chosen: dict[str, int] = {}
    for name in SINGLE:
        chosen[name] = _first_free((getattr(last, name), getattr(USUAL, name)), set(chosen.values()), free)
    kept: dict[str, Any] = {"stock": last.stock, "guards": last.guards, "pinned": last.pinned}
    ports = Ports(chosen["prefect"], chosen["mlflow"], chosen["evidently"], chosen["supervisor"], **kept)
    for release in releases:
        ports = with_scoring(ports, release, last.scoring.get(release, USUAL_SCORING), free)
    return ports


def with_scoring(ports: Ports, release: str, wanted: int = USUAL_SCORING, free: Free = is_free) -> Ports:
    """The same ports and one more, for the scoring service of a release that has none yet."""
    if release in ports.scoring:
        return ports
    port = _first_free((wanted, USUAL_SCORING), set(ports.all()), free)
    return replace(ports, scoring={**ports.scoring, release: port})


def with_backend(ports: Ports, release: str, backend: str) -> Ports:
    """The same ports, with the server that a release is served by: "trimtab" or "mlflow"."""
    others = tuple(name for name in ports.stock if name != release)
    return replace(ports, stock=(*others, release) if backend == "mlflow" else others)


def with_guard(ports: Ports, release: str, guard: Guard) -> Ports:
    """The same ports, with how the scoring service of a release is guarded."""
    return replace(ports, guards={**ports.guards, release: guard.to_json()})


def with_pin(ports: Ports, service: str, pin: str | None) -> Ports:
    """The same ports, with what a service serves: one release, as `Reference` writes it; None: its name's champion."""
    others = {name: given for name, given in ports.pinned.items() if name != service}
    return replace(ports, pinned=others if pin is None else {**others, service: pin})


def without_scoring(ports: Ports, service: str) -> Ports:
    """The same ports without a scoring service."""
    scoring = {name: port for name, port in ports.scoring.items() if name != service}
    guards = {name: guard for name, guard in ports.guards.items() if name != service}
    return replace(with_pin(with_backend(ports, service, "trimtab"), service, None), scoring=scoring, guards=guards)


def _first_free(candidates: Iterable[int], taken: set[int], free: Free) -> int:
    for port in candidates:
        if port not in taken and free(port):
            return port
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken and free(port):
            return port
