"""Connections to the API: several small httpx pools behind one door.

httpx 0.28's pool takes time quadratic in its connections (httpx#3215, httpcore#1035): one client with a
hundred of them manages a fifth of what ten clients of ten do. They share one TLS context, because making
one costs 17 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from worker.kinetic.options import Endpoint

LARGEST_SHARD = 10
KEEP_ALIVE_S = 4.0
"""Shorter than the 5 s after which common servers close an idle connection: a call that is sent into a
closing connection has an unknown outcome."""


class ClientPool:
    """Hands out the client with the fewest calls under way."""

    def __init__(self, endpoint: Endpoint, headers: dict[str, str]) -> None:
        sizes = _shares(endpoint.max_connections)
        tls = httpx.create_ssl_context()
        timeout = httpx.Timeout(
            endpoint.timeout.total_seconds(),
            connect=endpoint.connect_timeout.total_seconds(),
            pool=endpoint.connect_timeout.total_seconds(),
        )
        self._clients = [
            httpx.AsyncClient(
                headers=headers,
                verify=tls,
                timeout=timeout,
                follow_redirects=False,
                limits=httpx.Limits(
                    max_connections=size, max_keepalive_connections=size, keepalive_expiry=KEEP_ALIVE_S
                ),
            )
            for size in sizes
        ]
        self._load = [0.0] * len(sizes)
        self._weight = [1 / size for size in sizes]

    @contextmanager
    def client(self) -> Iterator[httpx.AsyncClient]:
        """Lend the least busy client for one call."""
        index = min(range(len(self._clients)), key=self._load.__getitem__)
        self._load[index] += self._weight[index]
        try:
            yield self._clients[index]
        finally:
            self._load[index] -= self._weight[index]

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients:
            await client.aclose()


def _shares(connections: int) -> list[int]:
    """Return sizes of at most ten that add up, as even as they can be.

    >>> _shares(50), _shares(7), _shares(11), _shares(25)
    ([10, 10, 10, 10, 10], [7], [6, 5], [9, 8, 8])
    """
    shards = -(-connections // LARGEST_SHARD)
    size, more = divmod(connections, shards)
    return [size + 1] * more + [size] * (shards - more)
