"""Receivers of alerts on loopback: one of JSON over HTTP, one of mail over SMTP."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Mails = list[tuple[str, str]]  # (verb, line), and ("DATA", the message)


@contextmanager
def json_receiver() -> Iterator[tuple[str, list[Any]]]:
    """Its address, and what came."""
    came: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook?key=secret", came
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def mailbox() -> Iterator[tuple[str, Mails]]:
    """Its address, smtp://…, and what came."""
    came: Mails = []

    class Handler(socketserver.StreamRequestHandler):
        """As much of SMTP as it takes to be sent a mail."""

        def handle(self) -> None:
            self.say("220 here")
            for raw in self.rfile:
                line = raw.decode().strip()
                verb = line.split(":")[0].split(" ")[0].upper()
                if verb == "DATA":
                    self.say("354 go on")
                    came.append(("DATA", self.message()))
                    self.say("250 taken")
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    came.append((verb, line))
                    self.say("250 fine")

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def message(self) -> str:
            lines: list[str] = []
            while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                lines.append(line)
            return "\n".join(lines)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"smtp://127.0.0.1:{server.server_address[1]}", came
    finally:
        server.shutdown()
        server.server_close()
