"""Parts of the week as people write them: `22:00-06:00`, `mon-fri 08:00-18:00`, `sat,sun`.

Owns the two directions between text and `Span`. Knows no time zone: a span is what a clock on a wall and the
calendar beside it can show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from itertools import chain

DAY, WEEK = 24 * 60, 7 * 24 * 60
"""In minutes."""

_HOUR = 60
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ALL_DAYS = tuple(range(len(_DAYS)))
_TIME = r"([0-9]{1,2}:[0-9]{2})"
_NAME = r"[a-z]{3,9}"
_NAMES = rf"({_NAME}(?:-{_NAME})?(?:,{_NAME}(?:-{_NAME})?)*)"
_FROM_TO = re.compile(rf"(?:{_NAMES} )?{_TIME}-{_TIME}")
_WHOLE_DAYS = re.compile(_NAMES)
_OVER_DAYS = re.compile(rf"({_NAME}) {_TIME}-({_NAME}) {_TIME}")
_LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Span:
    """A part of every week. Made by `parse_span`; `str()` is the text that makes it again.

    Attributes:
        days: on which it begins; 0 is Monday.
        begins: minute of the day.
        lasts: minutes; it may run over midnight.
    """

    days: tuple[int, ...]
    begins: int
    lasts: int

    def __contains__(self, minute: int) -> bool:
        """Whether a minute of the week lies in it; the minute at which it ends does not."""
        return any((minute - day * DAY - self.begins) % WEEK < self.lasts for day in self.days)

    @property
    def marks(self) -> frozenset[int]:
        """The minutes of the week at which it begins or ends."""
        begins = [day * DAY + self.begins for day in self.days]
        return frozenset(mark % WEEK for each in begins for mark in (each, each + self.lasts))

    def __str__(self) -> str:
        ends = self.begins + self.lasts
        if self.lasts > DAY or (self.lasts == DAY and self.begins):
            (first,) = self.days
            last_day, at = divmod(ends, DAY)
            return f"{_named(first)} {_clock(self.begins)}-{_named((first + last_day) % 7)} {_clock(at)}"
        times = f"{_clock(self.begins)}-{_clock(ends if ends <= DAY else ends - DAY)}"
        if len(self.days) == len(_DAYS):
            return times
        return _days_in_words(self.days) if self.lasts == DAY else f"{_days_in_words(self.days)} {times}"


def parse_span(text: str) -> Span:
    """Return the part of the week that a text means.

    Raises:
        ValueError: it means none; the message says why and fits after the text in quotes.

    >>> for text in ("22:00-6:00", "Monday - friday 8:00-18:00", "sun,sat", "fri 22:00-mon 06:00"):
    ...     print(parse_span(text))
    22:00-06:00
    mon-fri 08:00-18:00
    sat,sun
    fri 22:00-mon 06:00
    """
    wanted = re.sub(r"[\u2013\u2014]", "-", text.strip().lower())
    if len(wanted) > _LONGEST_TEXT:
        raise ValueError("is too long")
    wanted = re.sub(r"\s*([-,])\s*", r"\1", " ".join(wanted.split()))
    if match := _OVER_DAYS.fullmatch(wanted):
        first, begins, last, ends = match.groups()
        day, at, to = _day(first), _minute(begins), _minute(ends, last=True)
        return _span((day,), at, (_day(last) * DAY + to - day * DAY - at) % WEEK)
    if match := _FROM_TO.fullmatch(wanted):
        days, begins, ends = match.groups()
        at, to = _minute(begins), _minute(ends, last=True)
        return _span(_days(days) if days else _ALL_DAYS, at, to - at if to == DAY else (to - at) % DAY)
    if _WHOLE_DAYS.fullmatch(wanted):
        return _span(_days(wanted), 0, DAY)
    raise ValueError("is not one")


def parse_time_of_day(text: str) -> time:
    """Return the time of day that a text such as 18:00 means; ValueError when it means none."""
    if not re.fullmatch(_TIME, text.strip()):
        raise ValueError("is not a time of day")
    return time(*divmod(_minute(text.strip()), _HOUR))


def _span(days: tuple[int, ...], begins: int, lasts: int) -> Span:
    if not lasts:
        raise ValueError("ends when it begins; a whole day is 00:00-24:00")
    return Span(days, begins, lasts)


def _minute(text: str, *, last: bool = False) -> int:
    """Return the minute of the day that HH:MM means; 24:00 only where something ends."""
    hours, minutes = map(int, text.split(":"))
    minute = hours * _HOUR + minutes
    if minutes >= _HOUR or minute > (DAY if last else DAY - 1):
        raise ValueError(f"has {text}, which is not a time of day")
    return minute


def _days(text: str) -> tuple[int, ...]:
    """Return the days of a list such as `mon-wed,fri`, in the order of the week; `fri-mon` is four days."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begins, ends = _day(first), _day(last or first)
        found.update((begins + more) % 7 for more in range((ends - begins) % 7 + 1))
    return tuple(sorted(found))


def _day(name: str) -> int:
    for number, day in enumerate(_DAYS):
        if day.startswith(name):
            return number
    raise ValueError(f"has {name}, which is not a day of the week")


def _days_in_words(days: tuple[int, ...]) -> str:
    """Return `mon-wed,fri` for (0, 1, 2, 4)."""
    runs: list[list[int]] = []
    for day in days:
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    long = 3  # two days in a row are two days: sat,sun
    parts = ([f"{_named(r[0])}-{_named(r[-1])}"] if len(r) >= long else map(_named, r) for r in runs)
    return ",".join(chain.from_iterable(parts))


def _named(day: int) -> str:
    return _DAYS[day][:3]


def _clock(minute: int) -> str:
    hours, minutes = divmod(minute, _HOUR)
    return f"{hours:02}:{minutes:02}"
