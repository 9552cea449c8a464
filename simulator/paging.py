"""Pages of a listing: pure functions over sorted keys.

Keys come oldest first and stay so; a page is a slice, whichever way the list is read. By offset and by
page number, items shift when new ones arrive, as they do in real APIs; a cursor names a place and holds.
"""

from __future__ import annotations

import base64
import binascii
import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from simulator.executions import Key


@dataclass(frozen=True, slots=True)
class Page:
    """The keys of one page in the order asked for, and the cursor of the next (None at the end)."""

    keys: list[Key]
    next_cursor: str | None = None


def by_offset(keys: Sequence[Key], offset: int, limit: int, *, newest_first: bool) -> Page:
    """Return the page that skips `offset` keys.

    >>> from datetime import UTC
    >>> keys = [(datetime(2026, 1, day, tzinfo=UTC), day) for day in (1, 2, 3)]
    >>> [seq for _, seq in by_offset(keys, 1, 5, newest_first=True).keys]
    [2, 1]
    """
    if newest_first:
        end = max(0, len(keys) - offset)
        return Page(list(keys[max(0, end - limit) : end])[::-1])
    return Page(list(keys[offset : offset + limit]))


def by_cursor(keys: Sequence[Key], cursor: str | None, limit: int, *, newest_first: bool) -> Page:
    """Return the page after the one whose last key the cursor names; None starts at the head.

    Raises:
        ValueError: the cursor is not one of ours.
    """
    if newest_first:
        end = bisect.bisect_left(keys, _decode(cursor)) if cursor else len(keys)
        start = max(0, end - limit)
        page, more = list(keys[start:end])[::-1], start > 0
    else:
        start = bisect.bisect_right(keys, _decode(cursor)) if cursor else 0
        page, more = list(keys[start : start + limit]), start + limit < len(keys)
    return Page(page, _encode(page[-1]) if page and more else None)


def _encode(key: Key) -> str:
    return base64.urlsafe_b64encode(f"{key[0].isoformat()} {key[1]}".encode()).decode().rstrip("=")


def _decode(cursor: str) -> Key:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, _, seq = text.partition(" ")
        key = (datetime.fromisoformat(moment), int(seq))
    except (ValueError, binascii.Error):
        raise ValueError("not a cursor of this list") from None
    if key[0].tzinfo is None:
        raise ValueError("not a cursor of this list")
    return key
