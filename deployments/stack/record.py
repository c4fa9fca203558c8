"""What is written down about the stack: its ports, and the addresses while it is up."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path

from deployments.stack.config import Door
from deployments.stack.ports import HOST, Ports
from deployments.stack.services import addresses
from trimtab.settings import STACK_FILE, Settings
from trimtab.store import write_atomic


def ports_path(settings: Settings) -> Path:
    """Where the ports are remembered; the file outlives `down`, so that the next `up` uses the same."""
    return settings.home / "supervisor" / "ports.json"


def read_ports(settings: Settings) -> Ports | None:
    """The ports of the last `up`, or None where none can be read: they are a preference, not state."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        found = json.loads(ports_path(settings).read_text())
        return Ports(**{**found, "stock": tuple(found.get("stock", ()))})
    return None


def write_ports(settings: Settings, ports: Ports) -> None:
    """Remember the ports."""
    write_atomic(ports_path(settings), json.dumps(asdict(ports), indent=2).encode())


def write_stack(settings: Settings, ports: Ports, door: Door, pid: int) -> None:
    """Write `<home>/stack.json`, where every command finds the addresses. The password is not in it."""
    supervisor = {"supervisor": f"http://{HOST}:{door.port}", "supervisor_pid": pid}
    text = json.dumps({**addresses(ports), **supervisor}, indent=2)
    write_atomic(settings.home / STACK_FILE, text.encode())


def remove_stack(settings: Settings) -> None:
    """Take the addresses away: nothing listens there any more."""
    (settings.home / STACK_FILE).unlink(missing_ok=True)
