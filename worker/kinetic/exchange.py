"""One request and what came of it. Here it is decided whether the request was ever sent.

Owns the line between *never sent* and *sent*, the time bounds, and the names of what can go wrong
on the way. Does not know what a status means (`answers`), nor retries anything.

The type of an exception does not tell which side of the line it lies on: a read error can stem from
a proxy's CONNECT, before our request, and a time bound can end at any step. So httpcore's trace is
followed: it reports `send_request_headers.started` right before the first byte is handed to the
socket. An error before that report is *never sent*; any error after it is *sent*, even where the
bytes may not have left this machine.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import httpcore

from worker.kinetic.body import BodyError, read_body
from worker.kinetic.pool import ConnectionPool


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an exchange may take, in seconds.

    Attributes:
        to_send: from the call to the first byte sent: a free connection, DNS, TCP, TLS.
        after_sent: from then on to the last byte of the answer.
        total: both together.
    """

    to_send: float
    after_sent: float
    total: float


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose head was read. `lost` says why the body was not: "" when it is whole.

    Attributes:
        headers: names in lower case; the values of a repeated header are joined by commas.
        asked_at, answered_at: by our clock, around the wait for the answer's head.
    """

    status: int
    headers: dict[str, str]
    asked_at: datetime
    answered_at: datetime
    body: bytes = b""
    lost: str = ""


class NoAnswerError(Exception):
    """No answer's head came.

    Attributes:
        reason: short and stable, see `REASONS`.
        sent: whether the API may have seen the request.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent

    def __str__(self) -> str:
        return REASONS[self.reason]


REASONS = {
    "pool_timeout": "no connection became free in time; see KINETIC_MAX_CONNECTIONS",
    "dns_error": "the host of KINETIC_BASE_URL was not found by DNS",
    "connect_error": "no connection to the host of KINETIC_BASE_URL could be made",
    "connect_timeout": "no connection within KINETIC_CONNECT_TIMEOUT",
    "tls_error": "the TLS handshake failed; a private authority's certificate is trusted by SSL_CERT_FILE",
    "proxy_error": "the proxy from the environment turned the connection down",
    "too_late": "this process stood still too long before it could send",
    "write_error": "the connection broke while the request was being sent",
    "write_timeout": "the request could not be sent within KINETIC_TIMEOUT",
    "read_timeout": "the answer was not complete within KINETIC_TIMEOUT of sending",
    "connection_lost": "the connection ended before the answer was complete",
    "protocol_error": "what came back is not HTTP/1.1; check KINETIC_BASE_URL",
    "answer_too_large": "the answer is larger than any that makes sense; reading it was stopped",
    "unknown_encoding": "the answer is encoded in a way that was not asked for",
    "broken_encoding": "the answer's gzip encoding is broken",
}
"""Every way an exchange can go wrong, in words: for an answer's `lost` as well."""


async def exchange(
    pool: ConnectionPool,
    method: str,
    url: str,
    *,
    patience: Patience,
    max_body_bytes: int,
    now: Callable[[], datetime],
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request, once, and return the answer.

    Raises:
        NoAnswerError: for every other end except cancellation.
    """
    trail = _Trail(patience, now)
    try:
        async with (
            trail.bound(),
            pool.stream(method, url, {"trace": trail.follow}, headers) as response,
        ):
            head = trail.head_read(response)
            try:
                encoding = head.headers.get("content-encoding", "")
                body = await read_body(response.aiter_stream(), encoding, max_body_bytes)
            except BodyError as exc:
                trail.answer = replace(head, lost=exc.reason)
            else:
                trail.answer = replace(head, body=body, lost="")
    # Whatever a library raises, the caller must learn on which side of the line it happened.
    except Exception as exc:
        if trail.answer is None:
            reason = _reason_sent(exc) if trail.sent else _reason_unsent(exc, trail.stage)
            raise NoAnswerError(reason, sent=trail.sent) from exc
        if trail.answer.lost:
            trail.answer = replace(trail.answer, lost=_reason_sent(exc))
    return trail.answer


class _TooLateError(Exception):
    """The time to send had passed when sending was about to begin."""


class _Trail:
    """How far an exchange got."""

    def __init__(self, patience: Patience, now: Callable[[], datetime]) -> None:
        self._patience = patience
        self._now = now
        self._begun_s = asyncio.get_running_loop().time()
        self._scope = asyncio.timeout_at(self._begun_s + patience.to_send)
        self.stage: Literal["pool", "connect", "tls"] = "pool"
        self.sent = False
        self._begun_at = self.asked_at = now()
        self.answer: Answer | None = None

    def bound(self) -> asyncio.Timeout:
        """Return the time bound, which moves once the request is being sent."""
        return self._scope

    async def follow(self, event: str, info: dict[str, Any]) -> None:
        """Take note of httpcore's progress, and take the last look before the first byte leaves."""
        _, _, step = event.partition(".")
        if step == "connect_tcp.started":
            self.stage = "connect"
        elif step == "start_tls.started":
            self.stage = "tls"
        elif step == "send_request_headers.started" and info["request"].method != b"CONNECT":
            # Only a proxy sees CONNECT. Letting the loop turn once delivers a cancellation or a
            # passed bound that is already on its way: here it still means "never sent".
            await asyncio.sleep(0)
            self._begin_sending()

    def _begin_sending(self) -> None:
        time_s = asyncio.get_running_loop().time()
        # A process that was paused (VM, swap) while it connected must not send on waking: its lease
        # may be gone, and another worker may be about to send. The loop's clock stands still while the
        # machine sleeps; the worker's goes on.
        spent_s = max(time_s - self._begun_s, (self._now() - self._begun_at).total_seconds())
        if spent_s >= self._patience.to_send:
            raise _TooLateError
        self._scope.reschedule(min(time_s + self._patience.after_sent, self._begun_s + self._patience.total))
        self.asked_at = self._now()
        self.sent = True

    def head_read(self, response: httpcore.Response) -> Answer:
        """Note the answer's head; until its body is read it counts as lost."""
        self.answer = Answer(
            status=response.status,
            headers=_headers_of(response),
            asked_at=self.asked_at,
            answered_at=self._now(),
            lost="connection_lost",
        )
        return self.answer


def _headers_of(response: httpcore.Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), _text_of(raw_value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _reason_unsent(exc: Exception, stage: str) -> str:
    for kind, reason in _UNSENT:
        if isinstance(exc, kind):
            return reason
    if isinstance(exc, TimeoutError):
        return "pool_timeout" if stage == "pool" else "connect_timeout"
    if _caused_by(exc, socket.gaierror):
        return "dns_error"
    return "tls_error" if stage == "tls" else "connect_error"


_UNSENT: tuple[tuple[type[Exception], str], ...] = (
    (_TooLateError, "too_late"),
    (httpcore.PoolTimeout, "pool_timeout"),
    (httpcore.ConnectTimeout, "connect_timeout"),
    (httpcore.ProxyError, "proxy_error"),
)


def _reason_sent(exc: Exception) -> str:
    if isinstance(exc, TimeoutError | httpcore.ReadTimeout):
        return "read_timeout"
    if isinstance(exc, httpcore.WriteTimeout):
        return "write_timeout"
    if isinstance(exc, httpcore.WriteError):
        return "write_error"
    if (
        isinstance(exc, httpcore.RemoteProtocolError)
        and "closed" not in str(exc)
        and "disconnected" not in str(exc)
    ):
        return "protocol_error"
    return "connection_lost"


def _caused_by(exc: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether `kind` is among what led to `exc`; httpcore drops `__cause__` on the way, not `__context__`."""
    for _ in range(10):
        if exc is None or isinstance(exc, kind):
            return exc is not None
        exc = exc.__cause__ or exc.__context__
    return False
