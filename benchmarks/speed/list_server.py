"""A list of executions that costs next to nothing to ask for: `python -m benchmarks.speed.list_server`.

Every page is rendered before the first is asked for, byte for byte as the simulator would write it: what is
measured is the reader. Its address is the first line that it prints.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate

from benchmarks.speed.server import Connection, running, serve

PAGE = 100
WORKFLOW, VERSION = "3b1f7a52-6f0e-4f53-9d3c-0c6a4b6f7d10", "90f0c1d4-98f4-4a52-8d22-0d5f6e2c7b11"
SPREAD = timedelta(hours=12)
"""Over which the executions were created: well within a look-back of a day."""
_ENDED_AFTER = timedelta(minutes=4)
_REQUEST = re.compile(rb"GET /\S*?[?&]offset=(\d+)\S* HTTP/1\.1\r\n.*?\r\n\r\n", re.DOTALL)
_FILES = "https://files.example.com/executions"


def uuid_of(number: int) -> str:
    """Return the uuid of an execution of the list; 0 is the newest."""
    return str(uuid.UUID(int=0x4A7F_0000_0000_4000_8000_0000_0000_0000 + number * 0x9E37_79B9_7F4A_7C15))


def _rendered(number: int, now: datetime, step: timedelta) -> bytes:
    """Return an execution of about 1 kB, as the simulator would."""
    name, created_at = uuid_of(number), now - timedelta(minutes=5) - number * step
    execution = {
        "execution_uuid": name,
        "created_at": _iso(created_at),
        "updated_at": _iso(created_at + _ENDED_AFTER),
        "workflow_version_uuid": VERSION,
        "workflow_uuid": WORKFLOW,
        "workflow_name": "Prior authorisation, Northwind Health",
        "status": "failed",
        "input_payload": {
            "member_id": f"M-{number:08}",
            "payer": "Northwind Health",
            "procedure": {"code": "70553", "modifiers": ["26", "TC"], "units": 1},
            "notes": "Follow-up after the first submission was turned down for want of documents. " * 2,
        },
        "duration_ms": int(_ENDED_AFTER / timedelta(milliseconds=1)),
        "n_steps": 9,
        "n_agent_actions": 34,
        "n_screenshots": 35,
        "output_url": f"{_FILES}/{name}/output.json",
        "video_url": f"{_FILES}/{name}/video.mp4",
        "logs_url": f"{_FILES}/{name}/logs.txt",
    }
    return json.dumps(execution, ensure_ascii=False, separators=(",", ":")).encode()


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _pages(count: int) -> list[bytes]:
    """Return the answers to every offset, heads included; the last page is empty."""
    now, step = datetime.now(UTC), SPREAD / count
    bodies = [
        b"[%s]" % b",".join(_rendered(number, now, step) for number in range(start, start + PAGE))
        for start in range(0, count, PAGE)
    ]
    return [b"content-length: %d\r\n\r\n%s" % (len(body), body) for body in [*bodies, b"[]"]]


class _Connection(Connection):
    def __init__(self, pages: Sequence[bytes]) -> None:
        super().__init__()
        self._pages = pages

    def data_received(self, data: bytes) -> None:
        self.received += data
        while match := _REQUEST.match(self.received):
            self.received = self.received[match.end() :]
            date = formatdate(usegmt=True)
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: {date}\r\n"
            self.transport.write(head.encode() + self._pages[int(match.group(1)) // PAGE])


@contextmanager
def list_server(count: int) -> Iterator[str]:
    """Run a server with so many failed executions as a process of its own; yield its address."""
    with running("benchmarks.speed.list_server", "--count", str(count)) as url:
        yield url


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.list_server", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="executions in the list (100000)")
    pages = _pages(parser.parse_args().count)
    asyncio.run(serve(lambda: _Connection(pages)))
