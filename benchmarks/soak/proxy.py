"""A TCP proxy that can be down or slow, so that a registry can be without touching it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

CHUNK = 65_536


class Proxy:
    """Hands connections on to a port of this machine.

    Attributes:
        down: new connections are refused, those under way are cut.
        delay_s: so long nothing happens on a new connection.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.down = False
        self.delay_s = 0.0
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.down:
                return
            time.sleep(self.delay_s)
            with socket.create_connection(("127.0.0.1", self._port), timeout=30) as server:
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join(30)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self.down and (data := source.recv(CHUNK)):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
