"""Take one scoring service out of the stack; its journal, and what the registry has, stay."""

from __future__ import annotations

from deployments.stack.config import write_config
from deployments.stack.ports import without_scoring
from deployments.stack.record import read_ports, write_ports, write_stack
from deployments.stack.services import services
from deployments.stack.supervise import Supervisor
from trimtab.settings import Settings
from trimtab.store import os_lock


def withdraw(settings: Settings, service: str) -> bool:
    """Stop a scoring service and do not start it again.

    Returns:
        Whether there was one of this name.

    Raises:
        Conflict: an `up` or `down` of this state directory is running.
    """
    if not settings.home.is_dir():
        return False
    with os_lock(settings.locks / "stack.lock", wait=False, what="`trimtab up` or `trimtab down`"):
        known = read_ports(settings)
        if known is None or service not in known.scoring:
            return False
        left = without_scoring(known, service)
        write_ports(settings, left)
        supervisor = Supervisor.find(settings)
        if supervisor is not None:
            write_config(settings, supervisor.door, services(settings, left))
            supervisor.update()
            write_stack(settings, left, supervisor.door, supervisor.pid())
    return True
