"""One request and its answer: bounded in time and size, and sure of whether anything was sent.

"Was it sent?" decides between *never sent* and *unclear*, and so between sending again and looking for a
clone. Exception types do not tell: the answer is taken from the transport itself, which reports when it
begins to write the request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from worker.kinetic.pool import ClientPool

SENDING = "send_request_headers.started"

_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (httpx.ConnectTimeout, "connect_timeout"),
    (httpx.PoolTimeout, "pool_timeout"),
    (httpx.ReadTimeout, "read_timeout"),
    (httpx.WriteTimeout, "write_timeout"),
    (TimeoutError, "timeout"),
    (httpx.ConnectError, "connect_error"),
    (httpx.WriteError, "write_error"),
    (httpx.ReadError, "connection_lost"),
    (httpx.CloseError, "connection_lost"),
    (httpx.RemoteProtocolError, "connection_lost"),
    (httpx.ProxyError, "proxy_error"),
    (httpx.DecodingError, "unreadable_answer"),
    (httpx.InvalidURL, "invalid_url"),
)


class Lost(Exception):
    """No answer came.

    Attributes:
        sent: whether any byte of the request may have left.
        reason: short and stable, e.g. `connect_error`.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        body: None when it broke off, did not end in time or was larger than allowed; `cut` says which.
        served_at: the API's time (`Date`), None when absent or unreadable.
        skew: the API's clock minus ours; None when it did not say.
    """

    status: int
    headers: httpx.Headers
    body: bytes | None
    cut: str
    served_at: datetime | None
    skew: timedelta | None


async def exchange(
    pool: ClientPool,
    method: str,
    url: httpx.URL,
    *,
    largest: int,
    bound: timedelta,
    now: Callable[[], datetime],
) -> Answer:
    """Send one request and return its answer; redirects are answers, too.

    Args:
        pool: lends the connection.
        method: of the request.
        url: of the request, whole and quoted.
        largest: how many bytes of the (decoded) body are read at most.
        bound: the longest that all of it may take, beside httpx's own timeouts, which a server that
            drips byte by byte never meets.
        now: the worker's clock.

    Raises:
        Lost: no status line came. Whatever goes wrong after it no longer changes what the status says.
    """
    sent = False

    async def trace(event: str, _: dict[str, Any]) -> None:
        nonlocal sent
        sent = sent or event.endswith(SENDING)

    asked_at = now()
    answer: Answer | None = None
    try:
        async with asyncio.timeout(bound.total_seconds()):
            with pool.client() as client:
                request = client.build_request(method, url, extensions={"trace": trace})
                response = await client.send(request, stream=True)
                try:
                    answer = _begun(response, asked_at, now())
                    body, cut = await _read(response, largest)
                    answer = replace(answer, body=body, cut=cut)
                finally:
                    await response.aclose()
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as exc:
        reason = reason_of(exc)
        if answer is None:
            raise Lost(reason, sent=sent) from exc
        return answer if answer.cut or answer.body is not None else replace(answer, cut=reason)
    return answer


def reason_of(exc: BaseException) -> str:
    """Return a short, stable name for what went wrong; never any of the exception's own words.

    Looks through the causes, because httpx reports DNS and TLS trouble as connect errors.
    """
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, socket.gaierror):
            return "dns_error"
        if isinstance(seen, ssl.SSLError):
            return "tls_error"
        seen = seen.__cause__ or seen.__context__
    return next((reason for kind, reason in _REASONS if isinstance(exc, kind)), "transport_error")


async def _read(response: httpx.Response, largest: int) -> tuple[bytes | None, str]:
    body = bytearray()
    async for chunk in response.aiter_bytes(64 * 1024):
        body += chunk
        if len(body) > largest:
            return None, "answer_too_large"
    return bytes(body), ""


def _begun(response: httpx.Response, asked_at: datetime, answered_at: datetime) -> Answer:
    served_at = http_date(response.headers.get("date", ""))
    skew = None
    if served_at:
        # The header is cut to whole seconds and was written somewhere between question and answer.
        skew = served_at + timedelta(seconds=0.5) - (asked_at + (answered_at - asked_at) / 2)
        if abs(skew) <= timedelta(seconds=2) + (answered_at - asked_at) / 2:
            skew = timedelta(0)
    return Answer(response.status_code, response.headers, None, "", served_at, skew)


def http_date(text: str) -> datetime | None:
    """Return an HTTP date as aware UTC; None for anything else.

    >>> http_date("Sun, 06 Nov 1994 08:49:37 GMT").isoformat()
    '1994-11-06T08:49:37+00:00'
    >>> http_date("soon"), http_date("")
    (None, None)
    """
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
