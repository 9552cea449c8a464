"""Serves the application on a real socket, with the connection's transport within the application's reach.

Owns the process's life: the ready line, the end on a signal (bounded, whatever still hangs), the end when
the parent is gone, and the port: it can be made to refuse connections for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from simulator.middleware import TRANSPORT

GRACE_S = 1
PARENT_CHECK_S = 0.2
KEEP_ALIVE_S = 75  # longer than clients keep idle connections: no request meets a connection just closed
ANSWER_FIRST_S = 0.05
"""Between the order to refuse connections and its execution: the order itself is answered."""

DOOR = "simulator.door"
"""The key of the running `Server` in `scope["extensions"]`."""


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 takes a free one.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named on purpose: asyncio sets TCP_NODELAY only where it is, and without it every
    # answer on a kept connection waits 40 ms for an acknowledgement (head and body are written apart).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


class TransportProtocol(H11Protocol):
    """HTTP/1.1 that hands its transport to the application, so that faults can end the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base does
        """Take the connection, and wrap the application for it."""
        super().connection_made(transport)
        self.app = _with_transport(self.app, transport)


class Server(uvicorn.Server):
    """A uvicorn server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._refusing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then say so."""
        await super().startup(sockets)
        self._ready()

    def refuse(self, seconds: float) -> bool:
        """Drop every connection and refuse new ones for a while; False when that is under way already."""
        if self._refusing and not self._refusing.done():
            return False
        self._refusing = asyncio.create_task(self._refuse(seconds))
        return True

    async def _refuse(self, seconds: float) -> None:
        await asyncio.sleep(ANSWER_FIRST_S)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        for server in self.servers:
            server.close()
        # Bound but not listening: connections are refused, and nobody else is given the port meanwhile.
        bound = listen(host, port)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        try:
            await asyncio.sleep(seconds)
            if not self.should_exit:
                await super().startup([bound])
        except asyncio.CancelledError:
            bound.close()
            raise


def serve(app: ASGIApp, listener: socket.socket, ready: Callable[[], None], *, parent: int | None) -> None:
    """Serve until SIGTERM or SIGINT, then end within about `GRACE_S`.

    Args:
        app: what to serve.
        listener: a bound socket.
        ready: called once, when requests are accepted.
        parent: the pid of the process that started us: end as well when it has died. None: never mind.
    """
    config = uvicorn.Config(
        _with_door(app, lambda: server),
        http=TransportProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    # uvicorn raises the signal again once it has shut down: with these, that is an ordinary exit.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    server = Server(config, ready)
    asyncio.run(_run(server, listener, parent))


async def _run(server: Server, listener: socket.socket, parent: int | None) -> None:
    watch = None if parent is None else asyncio.create_task(_end_with(parent, server))
    try:
        await server.serve(sockets=[listener])
    finally:
        if watch:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch


async def _end_with(parent: int, server: Server) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - the system tells nobody that a parent has died
        await asyncio.sleep(PARENT_CHECK_S)
    server.should_exit = True


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def _with_door(app: ASGIApp, server: Callable[[], Server]) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[DOOR] = server()
        await app(scope, receive, send)

    return wrapped


def _with_transport(app: ASGIApp, transport: asyncio.Transport) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[TRANSPORT] = transport
        await app(scope, receive, send)

    return wrapped
