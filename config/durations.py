"""Durations as people write them: `30s`, `5m`, `24h`, `1h30m`, `500ms`, plain seconds, or ISO 8601.

Owns the two directions between text and `timedelta`, exact to the microsecond.
Knows nothing of variables or files; who calls says where the text came from.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from functools import cache

from pydantic import TypeAdapter, ValidationError

LONGEST = timedelta(days=3650)
"""Anything longer is a slip of the keyboard, and would overflow dates computed from it."""

_LONGEST_TEXT = 40
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PLAIN = re.compile(_NUMBER)
_UNITS = re.compile(
    rf"(?:({_NUMBER})d)?\s*(?:({_NUMBER})h)?\s*(?:({_NUMBER})m(?!s))?\s*(?:({_NUMBER})s)?\s*(?:({_NUMBER})ms)?"
)
_SECOND = 1_000_000
_MICROSECONDS = (86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000)


class DurationRangeError(ValueError):
    """The text is a duration, but a negative or an absurdly long one; the message says which."""


def parse_duration(text: str) -> timedelta:
    """Return the duration that `text` means.

    Units go from large to small (d, h, m, s, ms), each at most once; decimals are allowed; a bare
    number is seconds. Anything finer than a microsecond is rounded.

    Raises:
        DurationRangeError: negative, or longer than `LONGEST`.
        ValueError: not a duration at all.

    >>> [str(parse_duration(text)) for text in ("90", "1h30m", "1.5h", "500ms", "PT1H30M")]
    ['0:01:30', '1:30:00', '1:30:00', '0:00:00.500000', '1:30:00']
    """
    wanted = text.strip()
    if not wanted or len(wanted) > _LONGEST_TEXT:
        raise ValueError("is not a duration")
    size = wanted.removeprefix("-")
    duration = _iso(size) if size.startswith("P") else _units(size)
    if size != wanted:  # asked only now: "-soon" is not a negative duration, it is none
        raise DurationRangeError("is negative")
    if duration > LONGEST:
        raise DurationRangeError("is longer than 10 years")
    return duration


def _units(text: str) -> timedelta:
    if _PLAIN.fullmatch(text):
        return _from_microseconds(Decimal(text) * _SECOND)
    match = _UNITS.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError("is not a duration")
    counts = zip(match.groups(), _MICROSECONDS, strict=True)
    return _from_microseconds(sum((Decimal(count) * size for count, size in counts if count), Decimal(0)))


def _from_microseconds(total: Decimal) -> timedelta:
    if total > LONGEST // timedelta(microseconds=1):  # timedelta itself would overflow on 40 digits
        raise DurationRangeError("is longer than 10 years")
    return timedelta(microseconds=int(total.to_integral_value()))


@cache
def _reader() -> TypeAdapter[timedelta]:
    """Return what reads ISO 8601; made when somebody writes it: that takes 5 ms."""
    return TypeAdapter(timedelta)


def _iso(text: str) -> timedelta:
    try:
        duration = _reader().validate_python(text)
    except ValidationError:
        raise ValueError("is not a duration") from None
    if duration < timedelta(0):
        raise DurationRangeError("is negative")
    return duration
