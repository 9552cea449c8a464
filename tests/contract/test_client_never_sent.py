"""Before the first byte: every failure here is certainly no clone, and costs nothing."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from tests.contract.client_support import Wire, answering, client_of, clone, serving
from worker.domain.delivery import Accepted, NotDelivered, Refused
from worker.kinetic import KineticClient


def refused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def undelivered(client: KineticClient) -> NotDelivered:
    delivery = await client.retry("root")
    assert isinstance(delivery, NotDelivered), delivery
    assert delivery.http_status is None
    assert delivery.pause is None
    assert not delivery.suspend
    assert "nothing was sent" in delivery.detail
    return delivery


async def hang(wire: Wire) -> None:
    await wire.until_client_leaves()


async def test_a_refused_connection_is_not_delivered() -> None:
    """Nobody listens: never sent."""
    async with client_of(f"http://127.0.0.1:{refused_port()}") as client:
        assert (await undelivered(client)).reason == "connect_error"


async def test_an_unknown_host_is_not_delivered() -> None:
    """DNS has no such name: never sent, and the reason says that it was DNS."""
    async with client_of("http://nonexistent.invalid") as client:
        assert (await undelivered(client)).reason in ("dns_error", "connect_timeout")


async def test_a_host_that_python_cannot_even_encode_is_not_delivered() -> None:
    """Errors of another family than httpx's own keep to the same line."""
    async with client_of(f"http://{'a' * 70}.invalid") as client:
        assert (await undelivered(client)).reason in ("connect_error", "dns_error")


async def test_tls_against_a_plain_server_is_not_delivered() -> None:
    """The handshake fails: never sent, although bytes of it were exchanged."""

    async def babble(wire: Wire) -> None:
        await wire.reader.read(100)
        await wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(babble) as server, client_of(f"https://127.0.0.1:{server.port}") as client:
        assert (await undelivered(client)).reason == "tls_error"


async def test_a_hanging_tls_handshake_is_not_delivered() -> None:
    """TCP connects and TLS never answers: ends within the connect timeout, never sent."""
    async with (
        serving(hang) as server,
        client_of(f"https://127.0.0.1:{server.port}", connect_s=0.2) as client,
    ):
        assert (await undelivered(client)).reason == "connect_timeout"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
async def test_an_untrusted_certificate_is_not_delivered(tmp_path: Path) -> None:
    """Certificates are verified: the server never gets to see a request, nor the key."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2"
    )
    await asyncio.to_thread(
        subprocess.run,
        [*command.split(), "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with (
        serving(answering(201, clone()), ssl=context) as server,
        client_of(f"https://127.0.0.1:{server.port}") as client,
    ):
        assert (await undelivered(client)).reason == "tls_error"
        assert server.seen == []


async def test_no_free_connection_is_not_delivered() -> None:
    """A retry that finds no connection within the connect timeout is not sent later."""
    asked = asyncio.Event()

    async def slow(wire: Wire) -> None:
        await wire.request()
        asked.set()
        await wire.until_client_leaves()

    async with serving(slow) as server, client_of(server.url, connect_s=0.2, connections=1) as client:
        first = asyncio.create_task(client.get("busy"))
        await asked.wait()
        assert (await undelivered(client)).reason == "pool_timeout"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert [seen.method for seen in server.seen] == ["GET"]


async def test_a_process_that_stood_still_does_not_send_on_waking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to send passed while the process was paused: the lease may be gone, so nothing leaves."""
    async with serving(answering(201, clone())) as server, client_of(server.url, connect_s=0.1) as client:
        pool_stream = client._pool.stream

        def paused(method, url, extensions, headers):  # type: ignore[no-untyped-def]  # stands in for any stall
            follow = extensions["trace"]

            async def stall_then_follow(event: str, info: dict[str, object]) -> None:
                if event.endswith("send_request_headers.started"):
                    time.sleep(0.15)  # noqa: ASYNC251  (blocks the loop: that is the point)
                await follow(event, info)

            return pool_stream(method, url, {"trace": stall_then_follow}, headers)

        monkeypatch.setattr(client._pool, "stream", paused)
        assert (await undelivered(client)).reason in ("too_late", "connect_timeout")
        assert server.seen == []


@pytest.mark.parametrize("uuid", ["", ".", "..", "a\nb", "x" * 201, "\x1b[2J", "\ud800"])
async def test_an_unusable_uuid_never_becomes_a_url(uuid: str) -> None:
    """What no path segment can carry is refused without a call."""
    async with serving(answering(201, clone())) as server, client_of(server.url) as client:
        delivery = await client.retry(uuid)
        assert isinstance(delivery, Refused)
        assert delivery.reason == "unusable_uuid"
        assert server.connections == 0


async def test_a_proxy_that_refuses_the_tunnel_is_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONNECT is the proxy's business: whatever becomes of it, our POST was never sent."""
    async with serving(answering(502, b"no")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with client_of("https://kinetic.invalid") as client:
            assert (await undelivered(client)).reason == "proxy_error"
        assert [seen.method for seen in proxy.seen] == ["CONNECT"]
        assert "x-kinetic-key" not in proxy.seen[0].headers


async def test_a_proxy_that_hangs_up_on_the_tunnel_is_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same read error that makes a POST unclear is harmless when it belongs to CONNECT."""

    async def hang_up(wire: Wire) -> None:
        await wire.request()

    async with serving(hang_up) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with client_of("https://kinetic.invalid") as client:
            assert (await undelivered(client)).reason in ("connect_error", "proxy_error")


@pytest.mark.parametrize("address", ["https://kinetic.invalid", "http://kinetic.invalid"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4"])
async def test_a_proxy_that_is_none_for_http_is_sent_nothing(
    monkeypatch: pytest.MonkeyPatch, scheme: str, address: str
) -> None:
    """It would take our request, key included, for its own handshake."""
    async with serving(hang) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        async with client_of(address) as client:
            assert (await undelivered(client)).reason == "proxy_error"
        assert proxy.connections == 0


async def test_a_cancellation_before_sending_sends_nothing() -> None:
    """A worker that is told to stop while it connects leaves no request behind."""
    async with serving(hang) as server, client_of(f"https://127.0.0.1:{server.port}") as client:
        task = asyncio.create_task(client.retry("root"))
        while server.connections == 0:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.seen == []


async def test_a_lost_connection_of_httpx_is_healed() -> None:
    """Cancelled at the wrong moment, httpx's pool loses a connection for good: ours gets it back.

    Every moment of a request is tried. With one connection and no healing, all later calls would fail.
    """
    async with serving(answering(201, clone())) as server, client_of(server.url, connections=1) as client:
        for turns in range(40):
            task = asyncio.create_task(client.retry("root"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            delivery = await client.retry("root")
            if isinstance(delivery, NotDelivered):  # the one that noticed
                assert delivery.reason == "pool_timeout"
                delivery = await client.retry("root")
            assert isinstance(delivery, Accepted), (turns, delivery)
