"""When attempts may start: quiet hours, windows, and the time from which on a retry is useless.

Owns the rules. Every rule is read off a clock on the wall in a named time zone: it holds at the moments at
which that clock shows a time inside it. So daylight saving needs no rules of its own: what lies in the hour
that is skipped does not come that day, and what lies in the hour that is shown twice comes twice. Knows
nothing of policies, and reads no clock of its own: moments come in and go out as aware UTC.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from worker.domain.spans import DAY, Span, parse_span

__all__ = ["ALWAYS", "HORIZON", "Calendar", "Span", "parse_span"]

HORIZON = timedelta(days=15)
"""How far ahead openings are looked for: a weekly window may be skipped once by a change of the clocks."""

UTC_ZONE = ZoneInfo("UTC")

_MOST_IN_WORDS = 3
_MINUTE, _SECOND = timedelta(minutes=1), timedelta(seconds=1)
_STEP = timedelta(days=1)
"""No zone changes its clocks twice within a day: comparing both ends of a day finds every change."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """When attempts may start: in some window, if there are any, and in no quiet span.

    Attributes:
        timezone: where the clock hangs that the rules are read off.
        quiet, windows: see above.
        useless_after: a time of day, the first after the failure, or a duration after the failure.
    """

    timezone: ZoneInfo = UTC_ZONE
    quiet: tuple[Span, ...] = ()
    windows: tuple[Span, ...] = ()
    useless_after: time | timedelta | None = None

    @property
    def ever_opens(self) -> bool:
        """Whether the rules leave any time of the week at all."""
        return any(self._open_at(mark) for mark in (0, *self._marks()))

    def objection(self, moment: datetime) -> str | None:
        """Return the rule that no attempt may start then, named so that "not during …" reads well.

        >>> calendar = Calendar(ZoneInfo("America/New_York"), quiet=(parse_span("22:00-06:00"),))
        >>> calendar.objection(datetime(2026, 7, 1, 3, 15, tzinfo=UTC))
        'quiet hours 22:00-06:00 America/New_York'
        >>> calendar.objection(datetime(2026, 7, 1, 12, 0, tzinfo=UTC))
        """
        if self._open(moment):
            return None
        minute = _minute_of_week(_wall(self.timezone, moment))
        for span in self.quiet:
            if minute in span:
                return f"quiet hours {span} {self.timezone}"
        names = [str(span) for span in self.windows[:_MOST_IN_WORDS]]
        more = len(self.windows) - len(names)
        listed = "; ".join(names) + (f" and {more} more" if more else "")
        return f"hours outside the windows {listed} {self.timezone}"

    def next_open(self, moment: datetime) -> datetime | None:
        """Return the first moment from `moment` on at which attempts may start.

        None when there is none within `HORIZON`: the rules exclude each other.

        >>> calendar = Calendar(ZoneInfo("America/New_York"), quiet=(parse_span("22:00-06:00"),))
        >>> str(calendar.next_open(datetime(2026, 7, 1, 3, 15, tzinfo=UTC)))
        '2026-07-01 10:00:00+00:00'
        """
        return next((turn for turn in self._turns(moment) if self._open(turn)), None)

    def next_closed(self, moment: datetime) -> datetime | None:
        """Return the first moment from `moment` on at which no attempt may start; None: none in `HORIZON`."""
        return next((turn for turn in self._turns(moment) if not self._open(turn)), None)

    def useless_from(self, failed_at: datetime) -> datetime | None:
        """Return from when on a retry of what failed then is of no use to anybody; None for never.

        A time of day that the clocks skip is reached when they are put forward.

        >>> calendar = Calendar(ZoneInfo("Europe/London"), useless_after=time(18))
        >>> str(calendar.useless_from(datetime(2026, 7, 1, 17, 0, tzinfo=UTC)))
        '2026-07-02 17:00:00+00:00'
        """
        match self.useless_after:
            case None:
                return None
            case timedelta() as lasts:
                return failed_at.astimezone(UTC) + lasts
            case time() as at:
                return _next_showing(self.timezone, at, failed_at)

    def _open(self, moment: datetime) -> bool:
        if not self.quiet and not self.windows:
            return True
        return self._open_at(_minute_of_week(_wall(self.timezone, moment)))

    def _open_at(self, minute: int) -> bool:
        if any(minute in span for span in self.quiet):
            return False
        return not self.windows or any(minute in span for span in self.windows)

    def _marks(self) -> list[int]:
        return sorted(frozenset[int]().union(*(span.marks for span in (*self.quiet, *self.windows))))

    def _turns(self, moment: datetime) -> Iterator[datetime]:
        """Yield `moment`, and in order every later one within `HORIZON` at which a rule may begin or end.

        Between two of them nothing changes: the wall clock runs evenly and passes no mark.
        """
        marks = self._marks()
        for begins, ends in pairwise(_steps(self.timezone, moment, HORIZON)):
            yield begins
            wall = _wall(self.timezone, begins)
            monday = _midnight(wall) - wall.weekday() * _STEP
            for week in (monday, monday + 7 * _STEP):
                shown = (week + mark * _MINUTE for mark in marks)
                turns = (begins + (each - wall) for each in shown)
                yield from (turn for turn in turns if begins < turn < ends)


ALWAYS = Calendar()
"""No rules: attempts may start at any time, and are never useless."""


def _wall(zone: ZoneInfo, moment: datetime) -> datetime:
    """Return what the clock shows, as a naive time."""
    return moment.astimezone(zone).replace(tzinfo=None)


def _midnight(wall: datetime) -> datetime:
    return wall.replace(hour=0, minute=0, second=0, microsecond=0)


def _minute_of_week(wall: datetime) -> int:
    return wall.weekday() * DAY + (wall - _midnight(wall)) // _MINUTE


def _steps(zone: ZoneInfo, moment: datetime, lasting: timedelta) -> Iterator[datetime]:
    """Yield moments from `moment` on, a day apart at most, with every change of the clocks among them.

    They are in UTC, whatever comes in: only there does adding a duration give the moment so much later.
    """
    here = moment.astimezone(UTC)
    until, offset = here + lasting, here.astimezone(zone).utcoffset()
    while here < until:
        yield here
        there = min(here + _STEP, until)
        if there.astimezone(zone).utcoffset() != offset:
            there = _change(zone, here, there)
            offset = there.astimezone(zone).utcoffset()
        here = there
    yield until


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return when the clocks are changed between two moments: the first second of the new time."""
    whole, old = before.replace(microsecond=0), before.astimezone(zone).utcoffset()
    seconds = range((after - whole) // _SECOND + 1)
    changed = bisect_left(
        seconds, x=True, key=lambda second: (whole + second * _SECOND).astimezone(zone).utcoffset() != old
    )
    return whole + changed * _SECOND


def _next_showing(zone: ZoneInfo, at: time, moment: datetime) -> datetime:
    """Return the first moment after `moment` at which the clock shows that time of day, or skips it."""
    for begins, ends in pairwise(_steps(zone, moment, 3 * _STEP)):
        wall = _wall(zone, begins)
        for day in (wall.date(), wall.date() + _STEP):
            shown = datetime.combine(day, at)
            turn = begins + (shown - wall)
            if moment < turn and begins <= turn < ends:
                return turn
            if ends <= turn and shown < _wall(zone, ends):
                return ends
    raise AssertionError("every time of day comes or is skipped within three days")
