"""The Kinetic API as the worker uses it: list, get, retry. Exactly the contract, and nothing believed.

The border of the program: whatever httpx or the server comes up with ends here, as a delivery (a retry
call) or a `KineticError` (a GET).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import quote

import httpx

from worker.domain.delivery import Delivery, Refused
from worker.domain.executions import Execution, Status
from worker.kinetic.answers import body_of, delivery_of, delivery_of_lost, error_of_lost
from worker.kinetic.errors import NotFound, Unreadable
from worker.kinetic.exchange import Answer, Lost, exchange
from worker.kinetic.listing import Page, Walk
from worker.kinetic.options import Endpoint, ListContract
from worker.kinetic.pool import ClientPool
from worker.kinetic.wire import read_execution, usable_uuid

LARGEST_ANSWER = 4 * 1024 * 1024
LARGEST_PAGE = 32 * 1024 * 1024


class KineticClient:
    """Speaks to one deployment. One per event loop; `aclose` it there."""

    def __init__(self, endpoint: Endpoint, listing: ListContract, *, now: Callable[[], datetime]) -> None:
        """`now` is the worker's clock (aware UTC), against which the API's is measured."""
        self._bound = endpoint.connect_timeout + endpoint.timeout
        self._listing = listing
        self._now = now
        self._skew = timedelta(0)
        self._base = endpoint.base_url.rstrip("/")
        headers = {
            "X-Kinetic-Key": endpoint.api_key,
            "Accept": "application/json",
            "User-Agent": f"kinetic-retry-worker/{_version()}",
        }
        self._pool = ClientPool(endpoint, headers)

    @property
    def skew(self) -> timedelta:
        """The API's clock minus ours, by its latest `Date`; zero until known and while within 2 s."""
        return self._skew

    async def retry(self, execution_uuid: str) -> Delivery:
        """Ask for a retry and return what became of the call. Raises nothing but cancellation."""
        if not usable_uuid(execution_uuid):
            return Refused("unusable_uuid", "this uuid cannot be part of an address; no call was made", 0)
        path = f"/api/executions/{quote(execution_uuid, safe='')}/retry"
        try:
            answer = await self._exchange("POST", path, LARGEST_ANSWER)
        except Lost as lost:
            return delivery_of_lost(lost)
        return delivery_of(answer, self._api_now())

    async def get(self, execution_uuid: str) -> Execution:
        """Return an execution.

        Raises:
            KineticError: `NotFound` when the API does not know it; see `errors`.
        """
        if not usable_uuid(execution_uuid):
            raise NotFound("unusable_uuid", "this uuid cannot be part of an address")
        answer = await self._get(f"/api/executions/{quote(execution_uuid, safe='')}", LARGEST_ANSWER)
        execution = read_execution(body_of(answer, self._api_now(), "KINETIC_BASE_URL"), self._api_now())
        if execution is None:
            raise Unreadable(
                "no_execution", "the answer names no execution: check KINETIC_BASE_URL", answer.status
            )
        return execution

    async def pages(self, *, status: Status | None, since: datetime | None = None) -> AsyncIterator[Page]:
        """Return the list page by page; stop iterating when you have enough.

        Args:
            status: only executions of this status (None: all); the server is asked and checked.
            since: by the API's clock, for servers that have such a filter; others send more.

        Raises:
            KineticError: a page could not be had; what came before it is good.
        """
        walk = Walk(self._listing, status, since)
        while True:
            answer = await self._get(self._listing.path, LARGEST_PAGE, walk.params())
            page = walk.take(body_of(answer, self._api_now(), "KINETIC_LIST_PATH"), self._api_now())
            yield page
            if page.last:
                return

    async def probe(self) -> None:
        """Ask for one execution of the list, to see whether the API answers and takes the key.

        Raises:
            KineticError: it does not.
        """
        params = {self._listing.limit_param: "1"} if self._listing.limit_param else {}
        body_of(
            await self._get(self._listing.path, LARGEST_PAGE, params), self._api_now(), "KINETIC_LIST_PATH"
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def _get(self, path: str, largest: int, params: Mapping[str, str] | None = None) -> Answer:
        try:
            return await self._exchange("GET", path, largest, params)
        except Lost as lost:
            raise error_of_lost(lost) from lost

    async def _exchange(
        self, method: str, path: str, largest: int, params: Mapping[str, str] | None = None
    ) -> Answer:
        try:
            url = httpx.URL(self._base + path)
            url = url.copy_merge_params(params) if params else url
        except httpx.InvalidURL as exc:
            raise Lost("invalid_url", sent=False) from exc
        answer = await exchange(self._pool, method, url, largest=largest, bound=self._bound, now=self._now)
        if answer.skew is not None:
            self._skew = answer.skew
        return answer

    def _api_now(self) -> datetime:
        return self._now() + self._skew


def _version() -> str:
    try:
        return version("kinetic-retry-worker")
    except PackageNotFoundError:
        return "dev"
