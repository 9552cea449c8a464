"""Connections to the API: httpx's own engine, one connection at a time.

Owns how many connections there are and which of them serves a request. Knows nothing of what is asked or
answered, and re-sends nothing. `httpx.AsyncClient` is left out because it costs as much as sending does
(`docs/performance.md`), and its pool walks all its connections several times per request
(encode/httpx#3215): here each connection stands for itself. The one place to change with another httpx.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpcore
import httpx

from worker.kinetic.addresses import proxy_for, wire_address
from worker.kinetic.network import Network

KEEPALIVE_S = 2.0
"""Idle connections are let go well before servers close them (uvicorn: after 5 s). A POST that meets
a connection in the act of being closed ends *unclear*, although most likely nobody read it."""

_Connection = httpcore.AsyncHTTPConnection | httpcore.AsyncHTTPProxy
_Line = dict[str, _Connection]
"""One connection for each origin that was asked; there is one of them, but for logs."""


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the process's verifying context; building one takes 20 ms. Honours SSL_CERT_FILE."""
    return httpx.create_ssl_context()


class ConnectionPool:
    """At most `max_connections` requests at a time, on connections that are used again.

    Args:
        max_connections: in total.
        headers: sent with every request.
        timeout: for each connect, read and write. Its `pool` part only ever passes for a connection
            through a proxy that was lost, see `stream`.
    """

    def __init__(self, max_connections: int, *, headers: Mapping[str, str], timeout: httpx.Timeout) -> None:
        self._headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        self._timeout = timeout.as_dict()
        # A permit is a line that is free now. What was used last is used next: it is the least likely to
        # have been closed meanwhile.
        self._permits = asyncio.Semaphore(max_connections)
        self._free: list[_Line] = [{} for _ in range(max_connections)]
        self._lines = list(self._free)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        extensions: dict[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpcore.Response]:
        """Send one request; yields when the answer's head is there. The body is still to be read.

        Raises:
            Exception: as httpcore does; `httpx.InvalidURL`.
        """
        address, host = wire_address(url)
        own = [(b"Connection", b"keep-alive")]
        own += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        if method == "POST":
            own.append((b"Content-Length", b"0"))
        request = httpcore.Request(
            method,
            address,
            headers=[(b"Host", host), *self._headers, *own],
            extensions={**extensions, "timeout": self._timeout},
        )
        async with self._permits:
            line = self._free.pop()
            try:
                response = await (await _connection(line, address)).handle_async_request(request)
                try:
                    yield response
                finally:
                    await response.aclose()
            except httpcore.PoolTimeout:
                # Our permits make waiting for a connection impossible, unless httpcore's pool lost it: a
                # cancellation at the wrong moment does that to httpcore 1.0, for good.
                await _hang_up(line)
                raise
            finally:
                self._free.append(line)

    async def aclose(self) -> None:
        """Close every connection; requests under way end with an error."""
        for line in self._lines:
            await _hang_up(line)


async def _connection(line: _Line, address: httpcore.URL) -> _Connection:
    """Return the line's connection, made anew where it cannot be used again."""
    origin = address.origin
    key = str(origin)
    known = line.get(key)
    if isinstance(known, httpcore.AsyncHTTPProxy):
        return known  # a pool, which looks after its connection itself
    if known is None or known.has_expired() or not known.is_available():
        if known is not None:
            await _close(known)
        known = line[key] = _connect_later(origin)
    return known


async def _hang_up(line: _Line) -> None:
    for connection in line.values():
        await _close(connection)
    line.clear()


async def _close(connection: _Connection) -> None:
    with contextlib.suppress(Exception):  # of a connection that nobody will use again
        await connection.aclose()


def _connect_later(origin: httpcore.Origin) -> _Connection:
    """Return a connection that is made when it is first used."""
    proxy = proxy_for(origin.scheme.decode(), origin.host.decode())
    if proxy is None:
        return httpcore.AsyncHTTPConnection(
            origin, ssl_context=_tls_context(), keepalive_expiry=KEEPALIVE_S, network_backend=Network()
        )
    raw = proxy.url
    return httpcore.AsyncHTTPProxy(
        proxy_url=httpcore.URL(scheme=raw.raw_scheme, host=raw.raw_host, port=raw.port, target=raw.raw_path),
        proxy_auth=proxy.raw_auth,
        proxy_headers=proxy.headers.raw,
        ssl_context=_tls_context(),
        proxy_ssl_context=proxy.ssl_context,
        max_connections=1,
        keepalive_expiry=KEEPALIVE_S,
        network_backend=Network(),
    )
