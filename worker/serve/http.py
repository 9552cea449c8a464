"""A small HTTP server for a scraper and a few probes: bounded in connections and in time. Knows no ledger."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from worker.serve.page import Answer, words

MOST_REQUESTS = 16
"""Answered at once; whoever comes when all are taken is turned away. A scraper needs one, probes another."""
REQUEST_WITHIN_S = 5.0
"""A client that says nothing for longer, or does not take the answer, is left."""
WHOLE_WITHIN_S = 20.0
"""A request that is not over by then is cut off, however busily its client drips: it holds a place. Longer
than an answer may take to be worked out."""
_ALLOWED = "GET, HEAD"

Page = Callable[[str], Answer]
"""Returns the answer for an `Accept` header."""


def _cut_off(request: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it ended at this moment
        request.shutdown(socket.SHUT_RDWR)


class Server(ThreadingHTTPServer):
    """Answers with pages, each request in a thread of its own."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_REQUESTS

    def __init__(self, host: str, port: int, pages: Mapping[str, Page], log: Any) -> None:
        """Begin to listen; raises OSError when the address is taken or none of ours."""
        self.pages = pages
        self.log = log
        self._free = threading.BoundedSemaphore(MOST_REQUESTS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for our own name, which nobody needs and which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless too many are answered already."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next one."""
        cut = threading.Timer(WHOLE_WITHIN_S, _cut_off, (request,))
        cut.daemon = True
        cut.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            cut.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away half-way."""


class _Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: one request per connection, so that nobody keeps a thread for nothing."""

    server: Server
    server_version = "kinetic-retry"
    sys_version = ""
    timeout = REQUEST_WITHIN_S

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            known = ", ".join(sorted(self.server.pages))
            self._send(words(404, f"there is nothing here; try {known}"))
            return
        try:
            answer = page(self.headers.get("Accept", ""))
        except Exception as error:  # noqa: BLE001  # a traceback shows values, and helps no scraper
            log = self.server.log
            log.error("request_failed", path=self.path[:100], detail=type(error).__name__)
            answer = words(500, "this is a mistake of ours; the log has its kind")
        self._send(answer)

    def do_HEAD(self) -> None:
        self.do_GET()

    def parse_request(self) -> bool:
        """Turn away every other method, also those that nobody has heard of, without reading a body."""
        if not super().parse_request():
            return False
        if self.command not in _ALLOWED.split(", "):
            self._send(words(405, f"only {_ALLOWED}"), {"Allow": _ALLOWED})
            return False
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer a request that makes no sense in a line of text."""
        self.requestline, self.request_version = "", self.request_version or "HTTP/1.0"
        self.command = self.command or "GET"
        self._send(words(code, "this is no request that can be answered"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
        """Write nothing: a line for each scrape would drown what matters."""

    def _send(self, answer: Answer, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(answer.status)
        for name, value in {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
