"""Connections to the API: several small httpx clients behind one interface.

Owns how many connections there are and which client serves a request. Knows nothing of what is
asked or answered, and re-sends nothing. Why several clients: the connection pool of httpx 0.28
walks all its connections several times per request (encode/httpx#3215), so that one pool of 100
costs five times the CPU of ten pools of 10. The one place that would change with another httpx.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

CONNECTIONS_PER_CLIENT = 10

KEEPALIVE_S = 2.0
"""Idle connections are let go well before servers close them (uvicorn: after 5 s). A POST that meets
a connection in the act of being closed ends *unclear*, although most likely nobody read it."""


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the process's verifying context; building one takes 20 ms. Honours SSL_CERT_FILE."""
    return httpx.create_ssl_context()


@dataclass(slots=True, eq=False)
class _Shard:
    client: httpx.AsyncClient
    size: int
    in_flight: int = 0
    retired: bool = False


class ConnectionPool:
    """At most `max_connections` requests at a time, each sent by the least busy client.

    Args:
        max_connections: in total.
        headers: sent with every request.
        timeout: for each connect, read and write. Its `pool` part only ever passes for a client that
            has lost a connection, see `stream`.
    """

    def __init__(self, max_connections: int, *, headers: Mapping[str, str], timeout: httpx.Timeout) -> None:
        self._headers = dict(headers)
        self._timeout = timeout
        # A permit is a connection that is free now. So requests queue here, never inside a client,
        # where they would be stuck behind that client's slow ones while another has room.
        self._permits = asyncio.Semaphore(max_connections)
        count = -(-max_connections // CONNECTIONS_PER_CLIENT)
        small, extra = divmod(max_connections, count)
        self._shards = [self._shard(small + (index < extra)) for index in range(count)]

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        extensions: dict[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send one request; yields when the answer's head is there. The body is still to be read.

        Raises:
            httpx.TransportError: as httpx does.
        """
        async with self._permits:
            shard = min(self._shards, key=lambda each: each.in_flight / each.size)
            shard.in_flight += 1
            try:
                async with shard.client.stream(
                    method, url, headers=headers, extensions=extensions
                ) as response:
                    yield response
            except httpx.PoolTimeout:
                # Our permits make waiting inside a client impossible, unless it lost a connection: a
                # cancellation at the wrong moment does that to httpcore 1.0, for good.
                self._replace(shard)
                raise
            finally:
                shard.in_flight -= 1
                if shard.retired and shard.in_flight == 0:
                    await shard.client.aclose()

    async def aclose(self) -> None:
        """Close every connection; requests under way end with an error."""
        for shard in self._shards:
            await shard.client.aclose()

    def _replace(self, shard: _Shard) -> None:
        if not shard.retired:
            shard.retired = True
            self._shards[self._shards.index(shard)] = self._shard(shard.size)

    def _shard(self, size: int) -> _Shard:
        client = httpx.AsyncClient(
            headers=self._headers,
            timeout=self._timeout,
            limits=httpx.Limits(
                max_connections=size, max_keepalive_connections=size, keepalive_expiry=KEEPALIVE_S
            ),
            verify=_tls_context(),
            follow_redirects=False,
            # Cookies of an untrusted server would be state that we never asked for and never look at.
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        )
        return _Shard(client, size)
