"""Ports that are chosen and that no server listens on yet."""

from __future__ import annotations

import socket
from types import TracebackType

from deployments.stack.ports import HOST, is_free


class Claims:
    """Holds ports until their servers listen: another `up` at the same moment, wherever it is, chooses others.

    A claim is a UDP socket of the port's number: servers use TCP, so it is in nobody's way, and the kernel lets go of
    it with the process.
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def take(self, port: int) -> bool:
        """Claim a port; False where a server listens on it, or somebody else is about to start one."""
        if port in self._held:
            return True
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((HOST, port))
        except OSError:
            claim.close()
            return False
        if not is_free(port):
            claim.close()
            return False
        self._held[port] = claim
        return True

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for claim in self._held.values():
            claim.close()
        self._held.clear()
