"""Somebody who gets alerts: a small HTTP server on loopback for Apprise's `json://`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What came in, in order; `status` is what it answers, and it waits for `open` before that."""

    port: int = 0
    status: int = 200
    got: list[dict[str, str]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"json://user:passw0rd-of-it@127.0.0.1:{self.port}/T0KEN-of-the-hook"

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.got]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Listen until the block ends."""
    here = Receiver()
    here.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            here.open.wait(10)
            if here.status == 200:
                here.got.append(body)
            self.send_response(here.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.port = int(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.open.set()
        server.shutdown()
        server.server_close()
