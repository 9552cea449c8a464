"""The API, counted: which calls were made, how each ended and how long it took.

Owns the names of outcomes, of which there are a bounded number whatever an API answers. It changes nothing
about a call and adds nothing to its way: what was counted is added to the ledger between calls.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Protocol

from worker.domain.delivery import Accepted, Delivery
from worker.domain.executions import Execution, Status
from worker.kinetic import KineticError, Page
from worker.ledger import Ledger, LedgerError
from worker.ledger.calls import Counts

OK, UNREADABLE, OTHER = "ok", "unreadable", "other"
ADD_EVERY_S = 10.0
"""A reading of a long list makes calls for minutes: what it counts is added on its way."""
_NAMED = frozenset({400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 504})
_FIRST_ERROR = 300
_REASON = re.compile(r"[a-z]+(_[a-z]+)*", re.ASCII)


class Api(Protocol):
    """The Kinetic API, as the use cases need it; `worker.kinetic.KineticClient` is one."""

    @property
    def skew(self) -> timedelta:
        """The API's clock minus ours."""

    async def retry(self, execution_uuid: str) -> Delivery:
        """Ask for a retry; never raises."""

    async def get(self, execution_uuid: str) -> Execution:
        """Return an execution; raises `KineticError`."""

    def pages(self, *, status: Status | None, since: datetime | None = None) -> AsyncIterator[Page]:
        """Return the listing page by page; raises `KineticError`."""

    async def probe(self) -> None:
        """Return when the API answers a GET; raises `KineticError`."""


class CountedApi:
    """An `Api` whose calls are counted; `add` says so to the ledger."""

    def __init__(self, api: Api, ledger: Ledger) -> None:
        self._api = api
        self._ledger = ledger
        self._counts = Counts()
        self._added_at_s = time.monotonic()

    @property
    def skew(self) -> timedelta:
        """The API's clock minus ours."""
        return self._api.skew

    async def retry(self, execution_uuid: str) -> Delivery:
        """Ask for a retry; never raises."""
        begun_s = time.monotonic()
        delivery = await self._api.retry(execution_uuid)
        self._note("retry", outcome_of(delivery), begun_s)
        return delivery

    async def get(self, execution_uuid: str) -> Execution:
        """Return an execution; raises `KineticError`."""
        begun_s = time.monotonic()
        try:
            execution = await self._api.get(execution_uuid)
        except KineticError as error:
            self._note("get", outcome_of(error), begun_s)
            raise
        self._note("get", OK, begun_s)
        return execution

    async def pages(self, *, status: Status | None, since: datetime | None = None) -> AsyncIterator[Page]:
        """Yield the listing page by page, each of which is a call; raises `KineticError`."""
        begun_s = time.monotonic()
        try:
            async for page in self._api.pages(status=status, since=since):
                self._note("list", OK, begun_s)
                await self._add_on_the_way()
                yield page
                begun_s = time.monotonic()
        except KineticError as error:
            self._note("list", outcome_of(error), begun_s)
            raise

    async def probe(self) -> None:
        """Return when the API answers a GET; raises `KineticError`."""
        begun_s = time.monotonic()
        try:
            await self._api.probe()
        except KineticError as error:
            self._note("probe", outcome_of(error), begun_s)
            raise
        self._note("probe", OK, begun_s)

    async def add(self) -> None:
        """Add what was counted to the ledger; raises `LedgerError`, and then nothing is lost."""
        self._added_at_s = time.monotonic()
        await self._counts.add_to(self._ledger)

    async def _add_on_the_way(self) -> None:
        if time.monotonic() - self._added_at_s < ADD_EVERY_S:
            return
        try:
            await self.add()
        except LedgerError:
            return  # a figure for people is no reason to stop reading; it is added later

    def _note(self, method: str, outcome: str, begun_s: float) -> None:
        self._counts.note(method, outcome, time.monotonic() - begun_s)


def outcome_of(ended: Delivery | KineticError) -> str:
    """Return how a call ended, in a word.

    >>> outcome_of(KineticError("read_timeout")), outcome_of(KineticError("http_418", http_status=418))
    ('read_timeout', 'http_4xx')
    >>> outcome_of(KineticError("unreadable_json", http_status=200))
    'unreadable'
    """
    if isinstance(ended, Accepted):
        return OK
    status = ended.http_status
    if status is None:
        reason = getattr(ended, "reason", "")
        return reason if _REASON.fullmatch(reason) else OTHER
    if status < _FIRST_ERROR:
        return UNREADABLE
    return f"http_{status}" if status in _NAMED else f"http_{status // 100}xx"
