"""Connections: one at a time each, used again, and never more than allowed."""

from __future__ import annotations

import asyncio

import httpcore
import httpx
import pytest

from tests.contract.client_support import Wire, serving
from worker.kinetic.pool import ConnectionPool, _connect_later


async def ask(pool: ConnectionPool, url: str) -> int:
    async with pool.stream("POST", f"{url}/x", {}) as response:
        await response.aread()
        return response.status


def origin(scheme: str, host: str) -> httpcore.Origin:
    return httpcore.Origin(scheme.encode(), host.encode(), 443)


async def answer(wire: Wire) -> None:
    while True:
        await wire.request()
        await wire.send(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")


async def test_no_more_connections_than_allowed_and_each_is_used_again() -> None:
    """Twenty requests at once over three connections; later ones alone over the one that was used last."""
    async with serving(answer) as server:
        pool = ConnectionPool(3, headers={}, timeout=httpx.Timeout(5))
        assert set(await asyncio.gather(*(ask(pool, server.url) for _ in range(20)))) == {201}
        assert server.connections == 3
        for _ in range(5):
            await ask(pool, server.url)
        assert server.connections == 3
        await pool.aclose()


def test_one_tls_context_for_all() -> None:
    """Building one costs 20 ms: all connections of a process share it."""
    contexts = {id(_connect_later(origin("https", host))._ssl_context) for host in ("a.example", "b.example")}
    assert len(contexts) == 1


@pytest.mark.parametrize(
    ("scheme", "no_proxy", "proxied"),
    [("https", "", True), ("http", "", False), ("https", "kinetic.example", False)],
)
def test_the_proxy_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, scheme: str, no_proxy: str, *, proxied: bool
) -> None:
    """By scheme, and by the hosts that are left out."""
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "user:pw@proxy.example:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    connection = _connect_later(origin(scheme, "kinetic.example"))
    assert isinstance(connection, httpcore.AsyncHTTPProxy) == proxied
    if isinstance(connection, httpcore.AsyncHTTPProxy):
        assert (connection._proxy_url.host, connection._proxy_url.port) == (b"proxy.example", 3128)
        assert dict(connection._proxy_headers)[b"Proxy-Authorization"] == b"Basic dXNlcjpwdw=="
