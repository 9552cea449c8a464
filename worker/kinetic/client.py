"""The Kinetic API as the worker sees it: retry one, get one, list many, probe.

Owns the addresses, the key and the API's clock. Returns and raises values; logs nothing and
decides nothing about what to do next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlencode

import httpx

from worker.domain.delivery import Delivery, Refused
from worker.domain.executions import Execution, Status
from worker.domain.text import clean_text
from worker.kinetic.answers import (
    delivery_of,
    delivery_without_answer,
    json_of,
    raise_unless_ok,
    what_came,
    without_key,
)
from worker.kinetic.body import ACCEPT_ENCODING
from worker.kinetic.errors import NotFound, Unreachable, Unreadable
from worker.kinetic.exchange import Answer, NoAnswerError, Patience, exchange
from worker.kinetic.headers import skew_of
from worker.kinetic.listing import Page, Walk
from worker.kinetic.options import Endpoint, ListContract
from worker.kinetic.pool import ConnectionPool
from worker.kinetic.wire import read_execution, usable_uuid

MAX_EXECUTION_BYTES = 4 * 2**20
MAX_PAGE_BYTES = 32 * 2**20
_LEAKED_S = 0.25
_ONE_SETTINGS = "KINETIC_BASE_URL"
_LIST_SETTINGS = "KINETIC_LIST_PATH and KINETIC_BASE_URL"
_LIST = "the list of executions"


class Witness(Protocol):
    """Follows retry calls across the border, for tracing."""

    def headers(self) -> Mapping[str, str]:
        """Return what the call under way is to carry besides our own headers."""

    def answered(self, http_status: int) -> None:
        """Take note of its answer's status."""


class KineticClient:
    """Calls one Kinetic deployment. Belongs to one event loop; safe for concurrent use there.

    Args:
        endpoint: where it is, the key, and the time bounds.
        listing: how it lists executions.
        now: the worker's clock, aware UTC.
        witness: follows retry calls; must not raise. None = nobody does.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        listing: ListContract,
        *,
        now: Callable[[], datetime],
        witness: Witness | None = None,
    ) -> None:
        self._witness = witness
        self._base = endpoint.base_url.rstrip("/")
        self._key = endpoint.api_key
        self._listing = listing
        self._now = now
        self._skew = timedelta(0)
        self._skew_is_known = False
        self._timeout_s = endpoint.timeout.total_seconds()
        self._connect_s = endpoint.connect_timeout.total_seconds()
        self._pool = ConnectionPool(
            endpoint.max_connections,
            headers={
                "X-Kinetic-Key": self._key,
                "User-Agent": f"kinetic-retry-worker/{_version()}",
                "Accept": "application/json",
                "Accept-Encoding": ACCEPT_ENCODING,
            },
            timeout=httpx.Timeout(self._timeout_s, connect=self._connect_s, pool=_LEAKED_S),
        )

    @property
    def skew(self) -> timedelta:
        """The API's clock minus ours, by the latest answer that told; zero until then and below 2 s."""
        return self._skew

    async def retry(self, execution_uuid: str) -> Delivery:
        """Ask once for a retry and return what became of it. Raises nothing but cancellation.

        It is sent within `connect_timeout` or not at all, and over within `connect_timeout +
        timeout`: the lease on the lineage must outlast that.
        """
        if not usable_uuid(execution_uuid):
            return Refused("unusable_uuid", "the execution's uuid cannot be put into a URL", 0)
        try:
            headers = self._witness.headers() if self._witness else None
            url = self._url_of(execution_uuid) + "/retry"
            answer = await self._ask("POST", url, MAX_EXECUTION_BYTES, headers)
        except NoAnswerError as failure:
            return delivery_without_answer(failure)
        if self._witness:
            self._witness.answered(answer.status)
        return delivery_of(answer, now=self._api_now(), secret=self._key)

    async def get(self, execution_uuid: str) -> Execution:
        """Return one execution.

        Raises:
            KineticError: see `worker.kinetic.errors`; `NotFound` also for a uuid no URL can carry.
        """
        subject = f"execution {clean_text(execution_uuid, 80) or '?'}"
        if not usable_uuid(execution_uuid):
            raise NotFound("unusable_uuid", f"{subject}: its uuid cannot be put into a URL")
        answer = await self._get(self._url_of(execution_uuid), MAX_EXECUTION_BYTES, subject, _ONE_SETTINGS)
        data = json_of(answer, subject=subject, settings=_ONE_SETTINGS)
        execution = read_execution(data, self._api_now())
        if execution is None:
            detail = f"{subject}: expected an execution, got {what_came(answer)}; check {_ONE_SETTINGS}"
            raise Unreadable("unreadable_answer", detail, answer.status)
        if execution.uuid.casefold() != execution_uuid.casefold():
            raise Unreadable(
                "another_execution", f"{subject}: the answer is about another one", answer.status
            )
        return execution

    async def pages(self, *, status: Status | None, since: datetime | None = None) -> AsyncIterator[Page]:
        """Yield the listing page by page, each asked for when the caller wants it.

        Args:
            status: executions of this status only; None for all.
            since: passed on where the server has such a filter, by the API's clock; else ignored.

        Raises:
            KineticError: see `worker.kinetic.errors`.
        """
        walk = Walk(self._listing, status=status, since=since)
        while walk.query is not None:
            try:
                data = await self._list(walk.query)
            except NotFound:
                if self._listing.pagination != "page" or walk.pages == 0:
                    raise
                yield walk.take_nothing()
            else:
                yield walk.take(data, self._api_now())

    async def probe(self) -> None:
        """Return when the API answers a listing of one: the cheapest proof that the key works.

        Raises:
            KineticError: `NotFound` where this deployment has no list, which still proves that the
                key was not turned down.
        """
        walk = Walk(replace(self._listing, page_size=1), status=None, since=None)
        walk.take(await self._list(walk.query or []), self._api_now())

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    def _url_of(self, execution_uuid: str) -> str:
        return f"{self._base}/api/executions/{quote(execution_uuid, safe='')}"

    async def _list(self, query: list[tuple[str, str]]) -> Any:
        url = f"{self._base}/{self._listing.path.lstrip('/')}"
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        answer = await self._get(url, MAX_PAGE_BYTES, _LIST, _LIST_SETTINGS)
        return json_of(answer, subject=_LIST, settings=_LIST_SETTINGS)

    async def _get(self, url: str, max_body_bytes: int, subject: str, settings: str) -> Answer:
        try:
            answer = await self._ask("GET", url, max_body_bytes)
        except NoAnswerError as failure:
            raise Unreachable(failure.reason, f"{subject}: {failure}") from failure
        raise_unless_ok(answer, subject=subject, settings=settings, now=self._api_now(), secret=self._key)
        return answer

    async def _ask(
        self,
        method: Literal["GET", "POST"],
        url: str,
        max_body_bytes: int,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        total_s = self._connect_s + self._timeout_s
        # A retry that cannot be sent soon is better not sent: it must keep its whole time to be
        # answered within the lease. A GET may spend that time on waiting for a connection.
        patience = Patience(
            to_send=self._connect_s if method == "POST" else total_s,
            after_sent=self._timeout_s,
            total=total_s,
        )
        answer = await exchange(
            self._pool,
            method,
            url,
            patience=patience,
            max_body_bytes=max_body_bytes,
            now=self._now,
            headers=headers,
        )
        skew = skew_of(
            answer.headers, answer.asked_at, answer.answered_at, nothing_known=not self._skew_is_known
        )
        if skew is not None and not httpx.codes.is_server_error(
            answer.status
        ):  # a proxy's, with its own clock
            self._skew, self._skew_is_known = skew, True
        return without_key(answer, self._key)

    def _api_now(self) -> datetime:
        return self._now() + self._skew


def _version() -> str:
    try:
        return version("kinetic-retry-worker")
    except PackageNotFoundError:
        return "unknown"
