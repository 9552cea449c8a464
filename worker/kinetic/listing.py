"""Reads a listing of executions whose shape nobody has published. Pure: JSON in, pages out.

Owns where a walk through a listing stands: what to ask next and when nothing can follow. Knows
neither HTTP nor what the executions are wanted for. A walk ends when the server says so, with an
empty page, with three pages in a row that bring no execution this walk has not seen (a server that
ignores the paging parameters sends its first page for ever), with a repeated cursor, and after 10,000
pages.
A short page is no end: servers cap what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard
from urllib.parse import parse_qsl, urlsplit

from worker.domain.executions import Execution, Status, fingerprint_of
from worker.kinetic.errors import Unreadable
from worker.kinetic.options import ListContract
from worker.kinetic.wire import read_execution, shape_of

Query = list[tuple[str, str]]

MAX_PAGES = 10_000
MAX_PAGES_WITHOUT_NEWS = 3
"""One such page may be the same executions pushed down by a page of new ones between two questions; three
in a row come from a server that ignores the paging parameters."""
MAX_CURSOR_CHARS = 4000
ENVELOPES = ("items", "executions", "data", "results")
"""Where an answer that is no bare array may hold its items, when the settings do not say."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing.

    Attributes:
        executions: those of the wanted status, whether or not the server filtered, in its order.
        received: raw items in the answer, readable or not, wanted or not.
        unreadable: items without usable uuids: skipped and counted.
        oldest_created_at: of all readable items, wanted or not; None unless each had a believable date.
        last: nothing follows, for certain. A walk can also end without it: after `MAX_PAGES`, or when the
            server sends the same again and again.
    """

    executions: tuple[Execution, ...]
    received: int
    unreadable: int
    oldest_created_at: datetime | None
    last: bool


class Walk:
    """One walk through a listing, from its head.

    Attributes:
        query: what to ask next; None when the walk is over.
        pages: how many have been taken.
    """

    def __init__(self, contract: ListContract, *, status: Status | None, since: datetime | None) -> None:
        self._contract = contract
        self._status = status
        self._fixed = _fixed_query(contract, status, since)
        self._offset = 0
        self._seen: set[str] = set()
        self._cursors: set[str] = set()
        self._pages_without_news = 0
        self.pages = 0
        self.query: Query | None = self._first_query()

    def take(self, data: Any, now: datetime) -> Page:
        """Read the answer to `query` and move on.

        Args:
            data: parsed JSON.
            now: by the API's clock.

        Raises:
            Unreadable: there is no list where one should be, or no cursor; names the setting.
        """
        items = _items_of(data, self._contract.items_field)
        read = [read_execution(item, now) for item in items]
        known = len(self._seen)
        self._seen.update(
            each.uuid if each else fingerprint_of(raw) for each, raw in zip(read, items, strict=True)
        )
        self.pages += 1
        nothing_new = bool(items) and len(self._seen) == known
        self._pages_without_news = self._pages_without_news + 1 if nothing_new else 0
        going_round = self._pages_without_news >= MAX_PAGES_WITHOUT_NEWS
        following = self._following(data, len(items))
        self.query = None if going_round or self.pages >= MAX_PAGES else following
        readable = [each for each in read if each is not None]
        dates = [each.created_at for each in readable if each.created_at is not None]
        return Page(
            executions=tuple(each for each in readable if self._status in (None, each.status)),
            received=len(items),
            unreadable=len(items) - len(readable),
            oldest_created_at=min(dates) if dates and len(dates) == len(readable) else None,
            last=not going_round and following is None and not self._cut(data, len(items)),
        )

    def take_nothing(self) -> Page:
        """Read a 404 beyond the first page, which is how some servers say that there is no such page."""
        self.query = None
        return Page((), received=0, unreadable=0, oldest_created_at=None, last=True)

    def _cut(self, data: Any, received: int) -> bool:
        """Whether the list may go on although there is no way to ask for more.

        A server that pages all the same, or says the same cursor again, is no proof of an end.
        """
        if self._contract.pagination == "none":
            return bool(self._contract.limit_param) and received == self._contract.page_size
        if self._contract.pagination == "cursor" and isinstance(data, dict):
            return bool(_lookup(data, self._contract.next_field))
        return False

    def _first_query(self) -> Query:
        contract = self._contract
        if contract.pagination == "offset":
            return [*self._fixed, (contract.offset_param, "0")]
        if contract.pagination == "page":
            return [*self._fixed, (contract.page_param, "1")]
        return self._fixed

    def _following(self, data: Any, received: int) -> Query | None:
        contract = self._contract
        if contract.pagination == "cursor":
            return self._by_cursor(data)
        if contract.pagination == "none" or not received:
            return None
        if contract.pagination == "page":
            return [*self._fixed, (contract.page_param, str(self.pages + 1))]
        # What came, not what was asked for: a server that caps the page would make us skip the rest.
        self._offset += received
        return [*self._fixed, (contract.offset_param, str(self._offset))]

    def _by_cursor(self, data: Any) -> Query | None:
        if isinstance(data, list):
            if not data:
                return None
            raise _wrong("a bare array came, which has no room for a cursor", "KINETIC_LIST_PAGINATION")
        cursor = _lookup(data, self._contract.next_field)
        if cursor is None or cursor == "":
            return None
        if isinstance(cursor, int) and not isinstance(cursor, bool):
            cursor = str(cursor)
        if not _usable_cursor(cursor):
            came = f"{self._contract.next_field} holds {shape_of(cursor)} that is no cursor"
            raise _wrong(came, "KINETIC_LIST_NEXT_FIELD")
        if cursor in self._cursors:
            return None
        self._cursors.add(cursor)
        return _query_of_url(cursor) or [*self._fixed, (self._contract.cursor_param, cursor)]


def _fixed_query(contract: ListContract, status: Status | None, since: datetime | None) -> Query:
    """Return what every page's query begins with."""
    query: Query = []
    if contract.status_param and status is not None:
        query.append((contract.status_param, status.value))
    if contract.since_param and since is not None:
        # Whole seconds, rounded down: a second too much is harmless, a second too little is not.
        moment = since.astimezone(UTC).isoformat(timespec="seconds")
        query.append((contract.since_param, moment.replace("+00:00", "Z")))
    if contract.limit_param:
        query.append((contract.limit_param, str(contract.page_size)))
    return query


def _items_of(data: Any, field: str | None) -> list[Any]:
    if isinstance(data, list):
        return data
    missing = object()
    names = ENVELOPES if field is None else (field,)
    found = [_lookup(data, name, missing) for name in names]
    for value in found:
        if isinstance(value, list):
            return value
    if None in found:  # `{"items": null}`: how some servers write an empty list
        return []
    wanted = "an array, or an object that holds one under " + " or ".join(names)
    raise _wrong(f"expected {wanted}, got {shape_of(data)}", "KINETIC_LIST_ITEMS_FIELD and KINETIC_LIST_PATH")


def _lookup(data: Any, dotted: str, default: object = None) -> Any:
    """Return what `dotted` leads to, through objects only."""
    for name in dotted.split("."):
        if not isinstance(data, dict) or name not in data:
            return default
        data = data[name]
    return data


def _usable_cursor(cursor: object) -> TypeGuard[str]:
    """Whether it can go into a query: short, and without lone surrogates, which no encoding has."""
    return (
        isinstance(cursor, str)
        and len(cursor) <= MAX_CURSOR_CHARS
        and not any("\ud800" <= char <= "\udfff" for char in cursor)
    )


def _query_of_url(cursor: str) -> Query | None:
    """Return the query of a cursor that is a whole URL; None for any other.

    Only the query is taken: an answer must not choose the host that gets our key.
    """
    if not cursor.startswith(("https://", "http://", "/", "?")) or "?" not in cursor:
        return None
    try:
        return parse_qsl(urlsplit(cursor).query, keep_blank_values=True) or None
    except ValueError:
        return None


def _wrong(came: str, settings: str) -> Unreadable:
    return Unreadable("unreadable_list", f"the list of executions: {came}; check {settings}")
