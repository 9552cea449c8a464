"""A Kinetic whose every answer is hostile: in each field, each error and each header, and in its uuids.

It keeps the rules of the contract as far as a worker needs them to go on: it lists, shows and clones. Plain
asyncio, so that the request lines are seen as they came.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "canary-key-0123456789"
PATIENT = "PATIENT-4711"
EVIL = (
    "\x1b[38;5;199mred\x1b[0m\x1b[2J\x1b]0;title\x07\x1b]8;;https://evil.example\x1b\\link\x9b31m\x1bc"
    '[bold red]markup[/] [link=https://evil.example]l[/link] \r\n{"event": "forged"}\n2026-01-01 ERROR forged'
    "\x00\x07\x08\x7f\x85\t\u2028\u2029\u202egnp\u2066\u200b\ufeff\U000e0041\ud800 %s {0} $(id) ../../etc \\"
)
"""What acts on terminals, log lines, formats, markup and paths."""

UUIDS = {
    "a/b": "recovers",
    "../x": "recovers",
    "..%2f..%2fy": "fails",
    "q?status=completed#f": "refused",
    "%2e%2e": "broken",
    "--help": "in doubt",
    "[bold]x[/]\\": "vanishes",
    "é{kinetic}:lineage: \"'": "fails",
    "two words": "recovers",
}
"""Uuids that can be named in a URL, and what their retry call leads to."""
UNUSABLE = ("..", ".", "", "a\nb", "\x1b[2Jx", "x" * 300, "\u202ex", "\ud800", "a\x00b")


@dataclass
class EvilKinetic:
    """What it has, and the request lines it saw."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=lambda: dict(UUIDS))
    lines: list[str] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        for uuid in [*UUIDS, *UNUSABLE]:
            self.rows[uuid] = row(uuid, "failed")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, _, headers = head.partition("\r\n")
                self.lines.append(line)
                assert f"x-kinetic-key: {KEY}" in headers.lower()
                status, body = self.answer(*line.split(" ")[:2])
                writer.write(in_http(status, body))
                await writer.drain()
        writer.close()

    def answer(self, method: str, target: str) -> tuple[int, Any]:
        path = urlsplit(target).path
        if path == "/api/executions":
            wanted = parse_qs(urlsplit(target).query).get("offset", ["0"])
            return 200, {"items": list(self.rows.values())[::-1][int(wanted[0]) :], "total": EVIL}
        uuid = unquote(path.removeprefix("/api/executions/").removesuffix("/retry"))
        if uuid not in self.rows:
            return 404, {"detail": f"{EVIL} {KEY}"}
        return self.retried(uuid) if method == "POST" else (200, self.rows[uuid])

    def retried(self, uuid: str) -> tuple[int, Any]:
        match self.outcomes.get(uuid, "recovers"):
            case "refused":
                said = {"loc": [EVIL, KEY, 7], "msg": EVIL + KEY, "type": EVIL, "input": PATIENT}
                return 422, {"detail": [said] * 9}
            case "vanishes":
                del self.rows[uuid]
                return 404, {"detail": f'{EVIL} no execution with {{"member": "{PATIENT}"}}'}
            case "broken":
                self.clone(uuid, "completed")
                return 201, {KEY: EVIL, PATIENT: EVIL, EVIL: KEY}
            case "in doubt":
                return 500, {"detail": EVIL + KEY, "input": PATIENT}
            case outcome:
                return 201, self.clone(uuid, "completed" if outcome == "recovers" else "failed")

    def clone(self, of: str, status: str) -> dict[str, Any]:
        self.made += 1
        uuid = f"clone/{self.made} of {of}"[:200]
        self.outcomes[uuid] = "recovers"
        self.rows[uuid] = row(uuid, status, of=of)
        return self.rows[uuid]


def row(uuid: str, status: str, of: str | None = None) -> dict[str, Any]:
    """Return an execution with something hostile in every field that may hold text."""
    now = datetime.now(UTC)
    return {
        "execution_uuid": uuid,
        "workflow_version_uuid": f"v/{(of or uuid)[:20]}[red]".encode("utf-8", "replace").decode(),
        "workflow_uuid": f"w%2f{EVIL}" if len(uuid) % 2 else "w [red]",
        "workflow_name": EVIL,
        "status": status,
        "created_at": (now - timedelta(seconds=0 if of else 30)).isoformat(),
        "updated_at": now.isoformat() if len(uuid) % 2 else EVIL,
        "input_payload": {"member": PATIENT, "of": of or uuid, EVIL: [EVIL, 10**400, float("nan")]},
        "video_url": f"https://x/{EVIL}",
        "logs_url": "https://x/[link=https://evil.example]y[/link]"
        if len(uuid) % 2
        else "javascript:alert(1)",
        "n_steps": EVIL,
        "duration_ms": -1,
        EVIL: EVIL,
    }


def in_http(status: int, body: Any) -> bytes:
    """Return an answer with hostile headers, as far as HTTP lets bytes through."""
    raw = json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} \u202e\u0442".encode(),
        b"date: Mon, 01 Jan 0001 00:00:00 GMT",
        b"retry-after: 99999999999999999999",
        b"content-type: \x1b".replace(b"\x1b", b"[31m") + KEY.encode() + "\u202e".encode(),
        b"set-cookie: session=evil; path=/",
        b"location: https://evil.example/",
        b"content-length: %d" % len(raw),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + raw


@asynccontextmanager
async def evil_kinetic() -> AsyncIterator[tuple[EvilKinetic, str]]:
    """Run it on a free port of loopback; yields it and its address."""
    evil = EvilKinetic()
    server = await asyncio.start_server(evil.serve, "127.0.0.1", 0)
    try:
        yield evil, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
