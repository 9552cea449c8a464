"""Reading a list page by page, whatever way of paging this deployment has.

Nothing of the list is published, so everything here is by `ListContract`, and nothing is believed: the
server may cap pages, ignore the filter or the paging, shift items between pages, or never end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from worker.domain.executions import Execution, Status
from worker.domain.text import clean_text
from worker.kinetic.errors import Unreadable
from worker.kinetic.options import ListContract
from worker.kinetic.wire import read_execution

ENVELOPES = ("items", "executions", "data", "results")
MOST_PAGES = 10_000
MAX_CURSOR_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing.

    Attributes:
        executions: those of the wanted status, whether or not the server filtered.
        received: items in the answer, readable or not.
        unreadable: items that name no usable uuids; skipped.
        oldest_created_at: of all readable items; None unless each of them has a believable date.
        last: whether it is certain that nothing follows.
    """

    executions: tuple[Execution, ...]
    received: int
    unreadable: int
    oldest_created_at: datetime | None
    last: bool


@dataclass(slots=True)
class Walk:
    """One reading of the list: the next question, and what each answer means for it."""

    contract: ListContract
    status: Status | None
    since: datetime | None
    pages: int = 0
    received: int = 0
    cursor: str | None = None
    seen: set[str] = field(default_factory=set)
    cursors: set[str] = field(default_factory=set)

    def params(self) -> dict[str, str]:
        """Return the query of the next page."""
        contract = self.contract
        params: dict[str, str] = {}
        if contract.limit_param:
            params[contract.limit_param] = str(contract.page_size)
        if contract.status_param and self.status:
            params[contract.status_param] = self.status.value
        if contract.since_param and self.since:
            params[contract.since_param] = _iso(self.since)
        if contract.pagination == "offset":
            params[contract.offset_param] = str(self.received)
        elif contract.pagination == "page":
            params[contract.page_param] = str(self.pages + 1)
        elif contract.pagination == "cursor" and self.cursor:
            params[contract.cursor_param] = self.cursor
        return params

    def take(self, body: Any, now: datetime) -> Page:
        """Return the page that an answer holds, and get ready for the next.

        `now` is by the API's clock.

        Raises:
            Unreadable: there is no list of items in the answer.
        """
        items = items_of(body, self.contract)
        read = [read_execution(item, now) for item in items]
        executions = [each for each in read if each]
        news = {each.uuid for each in executions} - self.seen
        self.seen |= news
        self.pages += 1
        self.received += len(items)
        dates = [each.created_at for each in executions]
        return Page(
            executions=tuple(each for each in executions if self.status in (None, each.status)),
            received=len(items),
            unreadable=len(items) - len(executions),
            oldest_created_at=_oldest(dates),
            last=self._is_last(body, items, news),
        )

    def _is_last(self, body: Any, items: list[Any], news: set[str]) -> bool:
        # A short page is not the end (a server may cap it below what we asked); an empty one is, and so
        # is one without anything new: that server does not page at all, or goes round in circles.
        if not items or not news or self.pages >= MOST_PAGES or self.contract.pagination == "none":
            return True
        if self.contract.pagination != "cursor":
            return False
        self.cursor = next_cursor(body, self.contract)
        if self.cursor is None or self.cursor in self.cursors:
            return True
        self.cursors.add(self.cursor)
        return False


def items_of(body: Any, contract: ListContract) -> list[Any]:
    """Return the items of a list answer: the array itself, or what the envelope holds.

    Raises:
        Unreadable: names what came and the setting to change; never a value.
    """
    if contract.items_field:
        found = descend(body, contract.items_field)
        if isinstance(found, list):
            return found
    elif isinstance(body, list):
        return body
    elif isinstance(body, dict):
        for name in ENVELOPES:
            if isinstance(body.get(name), list):
                return list(body[name])
    wanted = contract.items_field or "an array, or one under items, executions, data or results"
    detail = (
        f"{_shape(body)} came where {wanted} was expected: set KINETIC_LIST_ITEMS_FIELD or KINETIC_LIST_PATH"
    )
    raise Unreadable("no_items", detail, 200)


def next_cursor(body: Any, contract: ListContract) -> str | None:
    """Return the cursor of what follows: a plain value, or from a full URL's query; None at the end."""
    found = descend(body, contract.next_field)
    if isinstance(found, bool) or not isinstance(found, (str, int)) or found == "":
        return None
    cursor = str(found)
    if len(cursor) > MAX_CURSOR_CHARS:
        return None
    if "://" in cursor or cursor.startswith(("/", "?")):
        try:
            linked: str | None = httpx.URL(cursor).params.get(contract.cursor_param)
        except httpx.InvalidURL:
            return None
        return linked
    return cursor


def descend(body: Any, path: str) -> Any:
    """Return what a dotted path leads to; None when it leads nowhere.

    >>> descend({"page": {"next": "c"}}, "page.next"), descend({"page": None}, "page.next")
    ('c', None)
    """
    if isinstance(body, Mapping) and path in body:
        return body[path]
    for step in path.split("."):
        body = body.get(step) if isinstance(body, Mapping) else None
    return body


def _oldest(dates: list[datetime | None]) -> datetime | None:
    known = [date for date in dates if date]
    return min(known) if known and len(known) == len(dates) else None


def _shape(body: Any) -> str:
    if isinstance(body, dict):
        keys = ", ".join(clean_text(str(key)[:40], 40) for key in list(body)[:8])
        return f"an object with the keys {keys or '(none)'}"
    return {list: "an array", str: "a text", type(None): "null"}.get(type(body), "a number or truth value")


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
