"""The two headers that carry time: `Date` and `Retry-After`. Both untrusted.

Owns how far the API's clock can be from ours and how long it may ask us to rest. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

DEFAULT_PAUSE = timedelta(seconds=5)
SHORTEST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(hours=1)
SMALLEST_SKEW = timedelta(seconds=2)
SLOWEST_HALF_TRIP = timedelta(seconds=1)
LARGEST_SKEW = timedelta(days=1)
"""A `Date` further from our clock than this is nonsense: no execution would have a believable time."""

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_LONGEST_DATE = 64


@lru_cache(maxsize=16)  # every answer has one, and a second's are the same
def http_date(value: str) -> datetime | None:
    """Return the moment an HTTP date names, in UTC; None when it names none.

    >>> http_date("Tue, 06 Jan 2026 10:00:00 GMT").isoformat(), http_date("soon")
    ('2026-01-06T10:00:00+00:00', None)
    """
    if not value or len(value) > _LONGEST_DATE:
        return None
    try:
        moment = parsedate_to_datetime(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def pause_of(headers: Mapping[str, str], now: datetime) -> timedelta:
    """Return how long `Retry-After` asks to rest, between a second and an hour.

    A date is taken relative to the answer's own `Date`, so that skewed clocks cancel out, else to
    `now`. What makes no sense (absent, negative, a past date, thousands of digits) reads as 5 s.

    >>> pause_of({"retry-after": "30"}, datetime(2026, 1, 6, tzinfo=UTC)).total_seconds()
    30.0
    """
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        asked = timedelta(seconds=float(value))
    else:
        until = http_date(value)
        if until is None:
            return DEFAULT_PAUSE
        asked = until - (http_date(headers.get("date", "")) or now)
        if asked < timedelta(0):
            return DEFAULT_PAUSE
    return min(max(asked, SHORTEST_PAUSE), LONGEST_PAUSE)


def skew_of(
    headers: Mapping[str, str], asked_at: datetime, answered_at: datetime, *, nothing_known: bool = False
) -> timedelta | None:
    """Return the API's clock minus ours, or None when the answer does not tell.

    The server wrote `Date` somewhere between question and answer, the middle is the best guess; it
    cut the fraction of a second off, half of one is put back. Right to within half a second plus
    half a round trip; so what is below two seconds plus that is called zero, or two clocks that agree
    would seem to dance. A slow answer does not tell: it must not replace what a quick one told. When nothing
    was told before, it is better than nothing. One that carries `Age` comes from a cache, with an old date.
    """
    date = http_date(headers.get("date", ""))
    if date is None or "age" in headers:
        return None
    half_trip = (answered_at - asked_at) / 2
    skew = date + timedelta(milliseconds=500) - (asked_at + half_trip)
    if abs(skew) > LARGEST_SKEW or (half_trip > SLOWEST_HALF_TRIP and not nothing_known):
        return None
    return skew if abs(skew) > SMALLEST_SKEW + half_trip else timedelta(0)
