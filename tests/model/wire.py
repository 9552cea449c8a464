"""The wire between a worker's real HTTP client and the model's API.

Everything of `worker.kinetic` is the product's own, down to what an answer means and what it tells of the
API's clock; only `exchange`, the one function that sends, is replaced by a call that stands still.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

from tests.model.calls import Call
from tests.model.kinetic_world import KineticWorld
from worker.kinetic import Endpoint, KineticClient, ListContract, client
from worker.kinetic.exchange import Answer, NoAnswerError

CONNECT_TIMEOUT = timedelta(seconds=2)
TIMEOUT = timedelta(seconds=8)
GRACE = timedelta(seconds=20)
CONTRACT = ListContract(page_size=50)

WITHOUT_EFFECT: dict[str, int] = {
    "never sent": 0,
    "error": 500,
    "bad gateway": 502,
    "unauthorized": 401,
    "throttled": 429,
    "unavailable": 503,
    "conflict": 409,
    "not found": 404,
    "invalid": 422,
}
"""How a call can end without effect: the status, or 0 when it never left the worker."""
LOSSES: dict[str, int] = {
    "read_timeout": 0,
    "connection_lost": 0,
    "error": 500,
    "gateway timeout": 504,
    "broken body": 201,
}
"""How an answer can be lost: the status that comes instead, or 0 when none does."""


class Wire:
    """What a client has instead of connections."""

    def __init__(self, world: KineticWorld, perform: Callable[[Call], asyncio.Future[Any]]) -> None:
        self.world = world
        self.perform = perform

    async def aclose(self) -> None:
        """Nothing is open."""


class HttpCall(Call):
    """One request and its answer, with the `Date` of the moment at which it arrived."""

    def __init__(self, wire: Wire, method: str, url: str, now: Callable[[], datetime]) -> None:
        parts = urlsplit(url)
        self.is_retry = method == "POST"
        self.uuid = parts.path.removesuffix("/retry").rpartition("/")[2]
        self.loss = "read_timeout"
        query = dict(parse_qsl(parts.query))
        listed = f"list {query.get('status', 'all')} from {query.get('offset')}"
        self.what = f"retry {self.uuid}" if self.is_retry else listed if query else f"get {self.uuid}"
        self._world = wire.world
        self._request = (method, parts.path, query)
        self._now = now
        self._asked_at = now()
        self._last_moment = self._world.clock.now() + CONNECT_TIMEOUT + TIMEOUT
        self._status = 0
        self._reason = "connect_error"
        self._body: Any = None
        self._date = ""

    def arrive(self) -> None:
        """Be acted on.

        A retry call that has left is acted on within the bound of a request or not at all: that is what the
        lease and the grace are built on.
        """
        world, trouble = self._world, self._world.habits.trouble
        self._date = format_datetime(world.now().replace(microsecond=0), usegmt=True)
        if self.is_retry and world.clock.now() > self._last_moment:
            self._reason = "too_late"
        elif trouble:
            self.turn_away(trouble)
        else:
            self._status, self._body = world.serve(*self._request)

    def is_given_up(self) -> None:
        """Be on the way still, for half the grace that the workers give it."""
        self._last_moment = max(self._last_moment, self._world.clock.now() + GRACE / 2)

    def turn_away(self, how: str) -> None:
        """End without effect."""
        self._status, self._body = WITHOUT_EFFECT[how], {"detail": how}

    def answer(self) -> Answer:
        if not self._status:
            raise NoAnswerError(self._reason, sent=False)
        return self._answer(self._status, json.dumps(self._body).encode())

    def lost(self) -> Answer:
        status = LOSSES[self.loss]
        if not status:
            raise NoAnswerError(self.loss, sent=True)
        return self._answer(status, b'{"execution_uuid": "e')

    def _answer(self, status: int, body: bytes) -> Answer:
        headers = {"content-type": "application/json"} | ({"date": self._date} if self._date else {})
        if status in (429, 503):
            headers["retry-after"] = "8"
        return Answer(status, headers, self._asked_at, self._now(), body)


async def exchange(wire: Any, method: str, url: str, *, now: Callable[[], datetime], **_: Any) -> Answer:
    """Stand in for `worker.kinetic.exchange.exchange`."""
    answer: Answer = await wire.perform(HttpCall(wire, method, url, now))
    return answer


def client_on(wire: Wire, now: Callable[[], datetime]) -> KineticClient:
    """Return a real client that has a wire instead of connections."""
    endpoint = Endpoint("https://kinetic.invalid", "k" * 16, TIMEOUT, CONNECT_TIMEOUT, 4)
    with patch.object(client, "ConnectionPool", lambda *_, **__: wire):
        return KineticClient(endpoint, CONTRACT, now=now)
