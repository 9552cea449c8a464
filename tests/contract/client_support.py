"""A server that does exactly what a test tells it to, on a real socket, and counts what it saw."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from worker.kinetic import Endpoint, KineticClient, ListContract

KEY = "kk-0123456789-secret"


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Seen:
    method: str
    target: str
    headers: dict[str, str]


@dataclass
class Wire:
    """One accepted connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: list[Seen]

    async def request(self) -> Seen:
        """Read one request and note it. Raises `IncompleteReadError` when the client has gone."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        seen = Seen(method, target, headers)
        self.seen.append(seen)
        return seen

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self,
        status: int,
        body: object = b"",
        *,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(raw)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()

    async def until_client_leaves(self) -> None:
        while await self.reader.read(65536):
            pass


Script = Callable[[Wire], Awaitable[None]]


@dataclass
class Server:
    port: int
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(script: Script, **options: Any) -> AsyncIterator[Server]:
    """Run `script` once per connection. Whatever it leaves open is closed when it returns."""
    tasks: set[asyncio.Task[Any]] = set()
    server = Server(port=0)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await script(Wire(reader, writer, server.seen))
        writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, **options)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(status: int, body: object = b"", **options: Any) -> Script:
    """Answer every request on a connection the same way."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.answer(status, body, **options)

    return script


@asynccontextmanager
async def client_of(
    url: str, *, timeout_s: float = 5.0, connect_s: float = 2.0, connections: int = 10, **listing: Any
) -> AsyncIterator[KineticClient]:
    endpoint = Endpoint(url, KEY, timedelta(seconds=timeout_s), timedelta(seconds=connect_s), connections)
    # The machine's own proxy, where there is one, must not stand between a test and its server.
    with patch.dict(os.environ, {"no_proxy": "127.0.0.1,nonexistent.invalid"}):
        client = KineticClient(endpoint, ListContract(**listing), now=utc_now)
    try:
        yield client
    finally:
        await client.aclose()


def clone(uuid: str = "clone-1", **more: object) -> dict[str, object]:
    return {"execution_uuid": uuid, "workflow_version_uuid": "v-1", "status": "queued", **more}
