"""The sockets under httpcore, straight on asyncio's transports.

httpcore's own go through anyio and bound every single read and write, which costs a fifth of a request
(`docs/performance.md`). Here they have no bound of their own: `exchange` bounds the whole.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

_MOST_BUFFERED = 2**18


class Network(httpcore.AsyncNetworkBackend):
    """Makes connections."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect; raises `httpcore.ConnectTimeout` and `httpcore.ConnectError`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                # A name may have addresses of both families, of which one leads nowhere.
                transport, protocol = await loop.create_connection(
                    _Protocol, host, port, happy_eyeballs_delay=0.25
                )
        except TimeoutError as exc:
            raise httpcore.ConnectTimeout from exc
        except OSError as exc:
            raise httpcore.ConnectError(str(exc)) from exc
        return _Stream(transport, protocol)

    async def sleep(self, seconds: float) -> None:
        """Return after that time."""
        await asyncio.sleep(seconds)


class _Protocol(asyncio.Protocol):
    """What came in and was not read yet."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.error: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what slows the sender down."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep what came in; nobody is made to hold more than can be used."""
        self.received += data
        if len(self.received) > _MOST_BUFFERED and self._transport:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Take note that nothing more comes; the transport closes."""
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the connection is gone, and why."""
        self.ended, self.error = True, exc
        self._room.set()
        self._wake()

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._room.set()

    async def read(self, most: int) -> bytes:
        """Return what came in, b"" at the end; raises the error that ended it."""
        while not self.received and not self.ended:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if not self.received and self.error:
            raise self.error
        data = bytes(self.received[:most])
        del self.received[:most]
        if self._transport and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()
        return data

    async def written(self) -> None:
        """Return when there is room for more; raises the error that ended the connection."""
        await self._room.wait()
        if self.ended:
            raise self.error or ConnectionResetError

    def _wake(self) -> None:
        if self._news and not self._news.done():
            self._news.set_result(None)


class _Stream(httpcore.AsyncNetworkStream):
    """One connection."""

    def __init__(self, transport: asyncio.Transport, protocol: _Protocol) -> None:
        self._transport = transport
        self._protocol = protocol

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what came in, b"" at the end; raises `httpcore.ReadError`."""
        try:
            return await self._protocol.read(max_bytes)
        except OSError as exc:
            raise httpcore.ReadError(str(exc)) from exc

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send; raises `httpcore.WriteError`."""
        self._transport.write(buffer)
        try:
            await self._protocol.written()
        except OSError as exc:
            raise httpcore.WriteError(str(exc)) from exc

    async def aclose(self) -> None:
        """Close, without waiting for the other side to agree."""
        self._transport.close()
        await asyncio.sleep(0)
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Go on in TLS; raises `httpcore.ConnectTimeout` and `httpcore.ConnectError`."""
        protocol = _Protocol()
        try:
            async with asyncio.timeout(timeout):
                transport = await asyncio.get_running_loop().start_tls(
                    self._transport, protocol, ssl_context, server_hostname=server_hostname
                )
        except BaseException as exc:
            await self.aclose()
            if isinstance(exc, TimeoutError):
                raise httpcore.ConnectTimeout from exc
            if isinstance(exc, OSError):
                raise httpcore.ConnectError(str(exc)) from exc
            raise
        if transport is None:
            raise httpcore.ConnectError("the connection ended during the TLS handshake")
        protocol.connection_made(transport)
        return _Stream(transport, protocol)

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks for: `is_readable` is whether there is anything nobody asked for."""
        match info:
            case "is_readable":
                return self._protocol.ended or bool(self._protocol.received) or self._has_unread()
            case "ssl_object" | "socket":
                return self._transport.get_extra_info(info)
            case "client_addr":
                return self._transport.get_extra_info("sockname")
            case "server_addr":
                return self._transport.get_extra_info("peername")
        return None

    def _has_unread(self) -> bool:
        """Whether anything came in, or the end, that the event loop has not come round to reading.

        The other side may have closed while this process was busy: what is sent then ends unclear.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:  # it is being closed
            return True
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))
