"""The HTTP server: bounded, in words, and never a traceback."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from worker.serve import http
from worker.serve.http import Server
from worker.serve.page import Answer, words


@contextmanager
def serving(**pages: Any) -> Iterator[Server]:
    server = Server(
        "127.0.0.1", 0, {f"/{name}": page for name, page in pages.items()}, structlog.get_logger()
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def ask(server: Server, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    url = f"http://127.0.0.1:{server.server_port}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def raw(server: Server, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_port), 5) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(4096), b""))


def fine(_accept: str) -> Answer:
    return words(200, "fine")


def test_what_there_is_and_what_there_is_not() -> None:
    """A query changes nothing; a wrong path says what there is; HEAD has no body."""
    with serving(here=fine) as server:
        assert ask(server, "/here?x=1")[:2] == (200, "fine\n")
        assert ask(server, "/nope")[:2] == (404, "there is nothing here; try /here\n")
        assert ask(server, "/here", "HEAD")[:2] == (200, "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_it_only_reads(method: str) -> None:
    """Every other method is refused, also one that nobody has heard of."""
    with serving(here=fine) as server:
        status, body, headers = ask(server, "/here", method)
    assert (status, body, headers["Allow"]) == (405, "only GET, HEAD\n", "GET, HEAD")


@pytest.mark.parametrize(
    "sent", [b"\x00\xff\x00\r\n\r\n", b"GET\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n"]
)
def test_nonsense_is_answered_in_a_line(sent: bytes) -> None:
    """And shows nothing of what was sent."""
    with serving(here=fine) as server:
        answer = raw(server, sent)
        assert ask(server, "/here")[0] == 200
    assert b"<html" not in answer.lower()
    assert b"aaaa" not in answer


def test_a_mistake_of_ours_is_one_line_without_its_message() -> None:
    """The log has the kind of the error; its message may quote what must not be shown."""

    def broken(_accept: str) -> Answer:
        raise ValueError("canary-0123456789")

    with serving(broken=broken) as server, capture_logs() as logs:
        status, body, _ = ask(server, "/broken")
    assert (status, body) == (500, "this is a mistake of ours; the log has its kind\n")
    assert [(line["event"], line["detail"]) for line in logs] == [("request_failed", "ValueError")]


def test_slow_clients_take_no_more_than_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are left after a while; until then whoever is too many is turned away at once."""
    assert http._Handler.timeout == http.REQUEST_WITHIN_S
    monkeypatch.setattr(http._Handler, "timeout", 0.5)
    with serving(here=fine) as server:
        slow = [
            socket.create_connection(("127.0.0.1", server.server_port), 5) for _ in range(http.MOST_REQUESTS)
        ]
        for each in slow:
            each.sendall(b"GET /here HTTP/1.0\r\nX: ")
        begun_s = time.monotonic()
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            ask(server, "/here")
        assert time.monotonic() - begun_s < 0.4, "it waited instead of being turned away"
        for each in slow:
            each.settimeout(5)
            assert each.recv(100) == b"", "left without an answer"
            each.close()
        until_s = time.monotonic() + 10
        while not _answers(server):
            assert time.monotonic() < until_s, "no place became free"


def test_a_client_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps no place for ever: probes would restart a process that is well."""
    monkeypatch.setattr(http, "WHOLE_WITHIN_S", 0.5)
    with serving(here=fine) as server, socket.create_connection(("127.0.0.1", server.server_port), 5) as slow:
        slow.settimeout(0.05)
        slow.sendall(b"GET /here HTTP/1.0\r\nX: ")
        until_s = time.monotonic() + 10
        while not _is_closed(slow):
            assert time.monotonic() < until_s, "it drips on"


def _is_closed(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def _answers(server: Server) -> bool:
    try:
        return ask(server, "/here")[0] == 200
    except (urllib.error.URLError, ConnectionError):
        return False
