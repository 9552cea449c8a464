"""A Kinetic API that costs next to nothing: `python -m benchmarks.speed.api`, and how to run it.

It answers every retry call with a new clone after a set latency, and counts. The simulator is true to the
contract and costs more than the worker; here what is measured is the worker. Its address is the first line
that it prints; `GET /tally` says how many retry calls came in, for how many executions, when the first and
the last of them came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.request import urlopen

from benchmarks.speed.server import Connection, running, serve

WORKFLOW, VERSION = "3b1f7a52-6f0e-4f53-9d3c-0c6a4b6f7d10", "90f0c1d4-98f4-4a52-8d22-0d5f6e2c7b11"
_REQUEST = re.compile(rb"(GET|POST) (/\S*) HTTP/1\.1\r\n.*?\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY = re.compile(rb"/api/executions/([^/?]+)/retry")
_TEMPLATE = json.dumps(
    {
        "execution_uuid": "%s",
        "created_at": "%s",
        "updated_at": "%s",
        "workflow_version_uuid": VERSION,
        "workflow_uuid": WORKFLOW,
        "workflow_name": "Eligibility, Harbor",
        "status": "queued",
        "input_payload": {"member": "M-100200", "payer": "Harbor", "notes": "x" * 200},
        "duration_ms": None,
        "n_steps": None,
        "n_agent_actions": None,
        "n_screenshots": None,
        "output_url": None,
        "video_url": None,
        "logs_url": None,
    }
)


@dataclass(slots=True)
class Tally:
    """What came in.

    Attributes:
        retries: retry calls answered.
        first_s, last_s: when the first and the last of them came in, by this machine's monotonic clock.
        came_at: when the first for each execution came in, in seconds since the epoch.
    """

    retries: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    came_at: dict[str, float] = field(default_factory=dict)


class _Connection(Connection):
    def __init__(self, tally: Tally, latency_s: float) -> None:
        super().__init__()
        self._tally = tally
        self._latency_s = latency_s
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while match := _REQUEST.match(self.received):
            length = _LENGTH.search(match.group())
            end = match.end() + (int(length.group(1)) if length else 0)
            if len(self.received) < end:
                return
            self.received = self.received[end:]
            self._answer(match.group(1), match.group(2))

    def _answer(self, method: bytes, path: bytes) -> None:
        retry = _RETRY.fullmatch(path) if method == b"POST" else None
        if retry:
            self._count(retry.group(1))
            answer = _http(201, _clone())
        elif path == b"/tally":
            answer = _http(200, self._told())
        elif path == b"/came_at":
            answer = _http(200, json.dumps(self._tally.came_at).encode())
        else:
            answer = _http(200, b'{"items": [], "next": null}')
        if retry and self._latency_s:
            self._loop.call_later(self._latency_s, self._write, answer)
        else:
            self.transport.write(answer)

    def _count(self, execution: bytes) -> None:
        tally, now_s = self._tally, time.monotonic()
        tally.retries += 1
        tally.first_s, tally.last_s = tally.first_s or now_s, now_s
        tally.came_at.setdefault(execution.decode(), time.time())

    def _told(self) -> bytes:
        tally = self._tally
        told = {"retries": tally.retries, "executions": len(tally.came_at)}
        return json.dumps({**told, "first_s": tally.first_s, "last_s": tally.last_s}).encode()

    def _write(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


def _clone() -> bytes:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return (_TEMPLATE % (uuid.uuid4(), now, now)).encode()


def _http(status: int, body: bytes) -> bytes:
    words = {200: "OK", 201: "Created"}[status]
    head = (
        f"HTTP/1.1 {status} {words}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"date: {formatdate(usegmt=True)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True, slots=True)
class Api:
    """A running server."""

    url: str

    def tally(self) -> dict[str, float]:
        """Return what came in so far: see the module."""
        return self._ask("tally")

    def came_at(self) -> dict[str, float]:
        """Return when the first retry call for each execution came in, in seconds since the epoch."""
        return self._ask("came_at")

    def _ask(self, what: str) -> dict[str, float]:
        with urlopen(f"{self.url}/{what}", timeout=10) as answer:
            told: dict[str, float] = json.load(answer)
        return told


@contextmanager
def api(latency_s: float = 0.0) -> Iterator[Api]:
    """Run the server as a process of its own until the block ends."""
    with running("benchmarks.speed.api", "--latency", str(latency_s)) as url:
        yield Api(url)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.api")
    parser.add_argument(
        "--latency", type=float, default=0.0, help="seconds before a retry call is answered (0)"
    )
    latency_s, tally = parser.parse_args().latency, Tally()
    asyncio.run(serve(lambda: _Connection(tally, latency_s)))


if __name__ == "__main__":
    main()
