"""Carries faults out, around an application that knows nothing of them, and counts what was asked.

Everything under /api passes through here; nothing else does. A fault before the commit means that the
application is never called; after it, the application has finished before the fault strikes, and its true
answer is kept back. Ending a connection needs the server's transport, which `server` puts in the scope.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from typing import Any, Literal
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simulator.faults import Faults, Kind, Operation, Rule
from simulator.traffic import Traffic
from simulator.world import UnknownError, World

TRANSPORT = "simulator.transport"
"""The key of the connection's transport in `scope["extensions"]`."""

Ending = Literal["closed", "reset", "hung"]

_ROUTES: list[tuple[str, re.Pattern[str], Operation]] = [
    ("POST", re.compile(r"/api/executions/([^/]+)/retry"), Operation.RETRY),
    ("GET", re.compile(r"/api/executions"), Operation.LIST),
    ("GET", re.compile(r"/api/executions/([^/]+)"), Operation.GET),
    ("POST", re.compile(r"/api/workflows/([^/]+)/run"), Operation.RUN),
    ("POST", re.compile(r"/api/executions/([^/]+)/complete"), Operation.COMPLETE),
]

_PAGE = (
    b"<!doctype html><html><head><title>Gateway</title></head><body><h1>Please stand by</h1></body></html>"
)


class FaultMiddleware:
    """Wraps the application: counts each API request, and lets it go wrong if a rule says so."""

    def __init__(self, app: ASGIApp, world: World, faults: Faults, traffic: Traffic) -> None:
        self._app = app
        self._world = world
        self._faults = faults
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        operation, subject = _operation(scope["method"], scope["path"])
        call = self._traffic.begin(operation, "" if operation is Operation.RUN else subject)
        outcome = "aborted"  # what stays if the server is stopped in the middle

        async def noting(message: Message) -> None:
            nonlocal outcome
            if message["type"] == "http.response.start":
                outcome = str(message["status"])
            await send(message)

        try:
            struck = (
                self._faults.strike(operation, self._workflow(operation, subject))
                if self._faults.rules
                else []
            )
            outcome = await self._serve(scope, receive, noting, struck) or outcome
        finally:
            self._traffic.end(call, outcome)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, struck: list[Rule]) -> Ending | None:
        """Serve one request with the faults that struck it; return how it ended if without an answer."""
        latencies = [rule for rule in struck if rule.kind is Kind.LATENCY]
        fault = next((rule for rule in struck if rule.kind is not Kind.LATENCY), None)
        # A caller who hangs up meanwhile does not stop us: the commit comes late, as with real servers.
        await asyncio.sleep(sum(rule.seconds for rule in latencies if not rule.after_commit))
        late = sum(rule.seconds for rule in latencies if rule.after_commit)
        if fault is None and not late:
            await self._app(scope, receive, send)
            return None
        kept = _Kept()
        if fault is None or fault.after_commit:
            await self._app(scope, receive, kept.send)
        await asyncio.sleep(late)
        if fault is None:
            await kept.replay(send)
            return None
        return await _carry_out(fault, kept, scope, receive, send)

    def _workflow(self, operation: Operation, subject: str) -> frozenset[str]:
        """Return the uuid and name of the workflow a request is about; empty when there is none."""
        try:
            if operation is Operation.RUN:
                workflow = self._world.workflow(subject)
            elif subject:
                workflow = self._world.execution(subject).workflow
            else:
                return frozenset()
        except UnknownError:
            return frozenset()
        return frozenset((workflow.uuid, workflow.name))


class _Kept:
    """An answer that was given but is kept back."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")

    async def replay(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


async def _carry_out(fault: Rule, kept: _Kept, scope: Scope, receive: Receive, send: Send) -> Ending | None:
    match fault.kind:
        case Kind.STATUS:
            status = fault.status or 500
            detail: Any = f"simulated {status}"
            if status == 422:  # noqa: PLR2004 - the one code whose body has a published shape
                detail = [{"loc": ["path", "execution_uuid"], "msg": detail, "type": "simulated"}]
            retry_after = None if fault.retry_after is None else _header_value(fault.retry_after)
            await _answer(send, status, json.dumps({"detail": detail}).encode(), retry_after=retry_after)
        case Kind.UNAUTHORIZED:
            await _answer(send, 401, b'{"detail":"Invalid API key"}')
        case Kind.HTML:
            await _answer(send, fault.status or 502, _PAGE, content_type=b"text/html")
        case Kind.BROKEN_BODY:
            await _answer(send, kept.status, kept.body[: len(kept.body) // 2])
        case Kind.RESET:
            await _drop(scope, receive, abruptly=True)
            return "reset"
        case Kind.HANG:
            try:
                async with asyncio.timeout(fault.seconds):
                    await _caller_gone(receive)
            except TimeoutError:
                pass
            finally:  # also when the server is stopped: a hanging request never gets an answer
                await _drop(scope, receive)
            return "hung"
        case _:
            await _drop(scope, receive)
            return "closed"
    return None


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    retry_after: str | None = None,
) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", retry_after.encode("latin-1", "replace")))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _drop(scope: Scope, receive: Receive, *, abruptly: bool = False) -> None:
    """End the connection without an answer; return when it has ended."""
    transport = scope.get("extensions", {}).get(TRANSPORT)
    if transport is None:
        raise RuntimeError("this fault ends the connection: it needs the simulator's own server")
    if abruptly:
        linger = struct.pack("ii", 1, 0)  # close at once and discard: the peer gets RST instead of FIN
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    else:
        transport.close()
    await _caller_gone(receive)  # returning earlier would make the server answer in our place


async def _caller_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _header_value(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else value


def _operation(method: str, path: str) -> tuple[Operation, str]:
    """Return what a request does and the uuid in its path ("" when it has none)."""
    for route_method, pattern, operation in _ROUTES:
        found = pattern.fullmatch(path) if method == route_method else None
        if found:
            return operation, unquote(found.group(1)) if pattern.groups else ""
    return Operation.OTHER, ""
