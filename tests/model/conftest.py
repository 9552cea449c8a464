"""A real server for the model's scripts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.calls import Server
from tests.support.redis_server import redis_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with redis_server() as running:
        server = Server(f"redis://127.0.0.1:{running.port}/0")
        yield server
        server.close()
