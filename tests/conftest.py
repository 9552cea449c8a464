"""A real Redis-compatible server, embedded, on a port of its own; every test gets its own namespace.

And the report of the model test at the end of the run.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.redis_server import redis_server
from worker.ledger import Connection, Ledger


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[str]:
    with redis_server() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def redis_url(shared_redis: str) -> str:
    return shared_redis


@pytest.fixture
def namespace() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
async def ledger(redis_url: str, namespace: str) -> AsyncIterator[Ledger]:
    ledger = Ledger(Connection(redis_url), namespace, events_maxlen=10_000)
    yield ledger
    await ledger.aclose()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what the model test really did: the claim of its docstring, to be checked."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "model":
                terminalreporter.section("model test")
                terminalreporter.write_line(value)
