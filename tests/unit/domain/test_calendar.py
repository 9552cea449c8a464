"""The calendar: what a span's text means, and that openings are exact wherever the clocks are changed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.domain.calendar import ALWAYS, HORIZON, Calendar, Span, parse_span
from worker.domain.spans import parse_time_of_day

NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY, WEEK = 1440, 10080
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
NEW_YORK, LONDON = ZoneInfo("America/New_York"), ZoneInfo("Europe/London")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")

CHANGES = (
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Europe/London", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/London", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2026, 5, 1, tzinfo=UTC)),
    ("UTC", datetime(2026, 12, 31, 12, tzinfo=UTC)),
)
"""Zones, and when each changes its clocks; nothing happens in the last two."""


def at(text: str, zone: ZoneInfo | None = None) -> datetime:
    """The moment of an ISO time: of UTC, or of a zone (the first, where its clock shows it twice)."""
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).astimezone(UTC)


def calendar(zone: ZoneInfo = NEW_YORK, quiet: str = "", windows: str = "", useless: str = "") -> Calendar:
    useless_after = parse_time_of_day(useless) if useless else None
    return Calendar(zone, spans(quiet), spans(windows), useless_after)


def spans(text: str) -> tuple[Span, ...]:
    return tuple(parse_span(part) for part in text.split(";") if part)


# --- an oracle that looks at every minute --------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """A span as somebody might say it, and its meaning spelt out minute by minute."""

    days: tuple[int, ...]
    begins: int
    ends: int
    last_day: int | None = None

    @property
    def text(self) -> str:
        begins, ends = (f"{minute // 60:02}:{minute % 60:02}" for minute in (self.begins, self.ends))
        if self.last_day is not None:
            return f"{NAMES[self.days[0]]} {begins}-{NAMES[self.last_day]} {ends}"
        return f"{','.join(NAMES[day] for day in self.days)} {begins}-{ends}"

    def holds(self, day: int, minute: int) -> bool:
        if self.last_day is not None:
            begins, ends = self.days[0] * DAY + self.begins, self.last_day * DAY + self.ends
            now = day * DAY + minute
            return begins <= now < ends if begins < ends else now >= begins or now < ends % WEEK
        if self.begins < self.ends:
            return day in self.days and self.begins <= minute < self.ends
        began_yesterday = (day - 1) % 7 in self.days and minute < self.ends
        return began_yesterday or (day in self.days and minute >= self.begins)


def said() -> st.SearchStrategy[Said]:
    """Spans, often with an end in the hours around the change of the clocks."""
    minutes = st.one_of(st.integers(0, 4 * 60), st.integers(0, DAY - 1))
    days = st.sets(st.integers(0, 6), min_size=1).map(lambda found: tuple(sorted(found)))
    daily = st.builds(Said, days, minutes, st.one_of(minutes, st.just(DAY)))
    weekly = st.builds(
        Said, st.tuples(st.integers(0, 6)), minutes, st.one_of(minutes, st.just(DAY)), st.integers(0, 6)
    )
    return st.one_of(
        daily.filter(lambda span: span.begins != span.ends),
        weekly.filter(
            lambda s: (s.days[0] * DAY + s.begins) % WEEK != ((s.last_day or 0) * DAY + s.ends) % WEEK
        ),
    )


@lru_cache
def wall_clock(zone: str, change: datetime) -> tuple[datetime, list[tuple[int, int]]]:
    """What the clock shows (weekday, minute) at every minute from four days before the change on."""
    begins = change - timedelta(days=4)
    there = ZoneInfo(zone)
    shown = ((begins + n * MINUTE).astimezone(there) for n in range(25 * DAY))
    return begins, [(local.weekday(), local.hour * 60 + local.minute) for local in shown]


def table(quiet: list[Said], windows: list[Said]) -> list[list[bool]]:
    def may_start(day: int, minute: int) -> bool:
        in_window = not windows or any(span.holds(day, minute) for span in windows)
        return in_window and not any(span.holds(day, minute) for span in quiet)

    return [[may_start(day, minute) for minute in range(DAY)] for day in range(7)]


def first(
    open_at: list[list[bool]], clock: list[tuple[int, int]], offset: timedelta, *, wanted: bool
) -> timedelta | None:
    """The oracle's answer, as a distance from the clock's first minute like `offset`."""
    start = offset // MINUTE
    for n in range(start, (offset + HORIZON) // MINUTE + 1):
        day, minute = clock[n]
        if open_at[day][minute] is wanted:
            found = max(offset, n * MINUTE)
            return found if found < offset + HORIZON else None
    return None


@pytest.mark.parametrize(("zone", "change"), CHANGES)
@settings(max_examples=40)
@given(
    quiet=st.lists(said(), max_size=3),
    windows=st.lists(said(), max_size=3),
    offset=st.builds(
        lambda seconds, micros: timedelta(seconds=seconds, microseconds=micros),
        st.one_of(st.integers(3 * 86_400, 5 * 86_400), st.integers(0, 8 * 86_400)),
        st.sampled_from([0, 1, 999_999]),
    ),
)
def test_every_answer_is_that_of_a_clock_on_the_wall(
    zone: str, change: datetime, quiet: list[Said], windows: list[Said], offset: timedelta
) -> None:
    """Whoever reads the clock at every minute comes to the same openings and ends, to the microsecond."""
    begins, clock = wall_clock(zone, change)
    moment = begins + offset
    rules = Calendar(
        ZoneInfo(zone),
        tuple(parse_span(each.text) for each in quiet),
        tuple(parse_span(each.text) for each in windows),
    )
    open_at = table(quiet, windows)
    day, minute = clock[offset // MINUTE]
    assert (rules.objection(moment) is None) is open_at[day][minute]
    for found, wanted in ((rules.next_open(moment), True), (rules.next_closed(moment), False)):
        expected = first(open_at, clock, offset, wanted=wanted)
        assert found == (None if expected is None else begins + expected)
    assert rules.ever_opens is any(map(any, open_at))


@pytest.mark.parametrize(("zone", "change"), CHANGES)
@settings(max_examples=40)
@given(
    minute=st.one_of(st.integers(0, 4 * 60), st.integers(0, DAY - 1)),
    seconds=st.one_of(st.integers(3 * 86_400, 5 * 86_400), st.integers(0, 8 * 86_400)),
)
def test_useless_from_the_first_time_the_clock_gets_there(
    zone: str, change: datetime, minute: int, seconds: int
) -> None:
    """The first minute after the failure at which the clock shows the time, or is put past it."""
    begins, clock = wall_clock(zone, change)
    rules = Calendar(ZoneInfo(zone), useless_after=time(*divmod(minute, 60)))
    found = rules.useless_from(begins + seconds * SECOND)
    for n in range(seconds // 60 + 1, len(clock)):
        before, now = clock[n - 1][1], clock[n][1]
        if now == minute or before < minute < now:
            assert found == begins + n * MINUTE
            return
    raise AssertionError("not within the clock's days")


@given(said())
def test_a_span_means_what_it_says_and_is_written_so_that_it_means_it(words: Said) -> None:
    """Every minute of the week lies in it or not as the words say; its own text makes it again."""
    span = parse_span(words.text)
    assert all((n in span) is words.holds(*divmod(n, DAY)) for n in range(WEEK))
    assert parse_span(str(span)) == span
    assert str(parse_span(str(span))) == str(span)


# --- text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("22:00-06:00", "22:00-06:00"),
        (" 8:00 - 18:00 ", "08:00-18:00"),
        ("22:00-00:00", "22:00-24:00"),
        ("00:00-24:00", "00:00-24:00"),
        ("mon-sun", "00:00-24:00"),
        ("mon,tue,wed 09:00-10:00", "mon-wed 09:00-10:00"),
        ("Mon - Fri 08:00\u201318:00", "mon-fri 08:00-18:00"),
        ("fri-mon", "mon,fri-sun"),
        ("sun,sat", "sat,sun"),
        ("SUNDAY 00:00-24:00", "sun"),
        ("tues, thurs 23:30-0:30", "tue,thu 23:30-00:30"),
        ("fri 22:00 - mon 06:00", "fri 22:00-mon 06:00"),
        ("fri 22:00-sat 06:00", "fri 22:00-06:00"),
        ("fri 22:00-sat 22:00", "fri 22:00-sat 22:00"),
        ("fri 22:00-fri 06:00", "fri 22:00-fri 06:00"),
        ("sat 00:00-sun 24:00", "sat 00:00-mon 00:00"),
    ],
)
def test_text_of_a_span(text: str, written: str) -> None:
    """Spans are read generously and written in one way, which means the same."""
    assert str(parse_span(text)) == written
    assert parse_span(written) == parse_span(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not one"),
        ("22-06", "is not one"),
        ("22:00", "is not one"),
        ("mon 22:00", "is not one"),
        ("22:00-06:00 mon", "is not one"),
        ("mon,,tue", "is not one"),
        ("\u0662\u0662:00-06:00", "is not one"),
        ("mo 22:00-06:00", "is not one"),
        ("moon 22:00-06:00", "has moon, which is not a day of the week"),
        ("mon-fro", "has fro, which is not a day"),
        ("25:00-06:00", "has 25:00, which is not a time of day"),
        ("08:00-18:60", "has 18:60, which is not a time of day"),
        ("24:00-06:00", "has 24:00, which is not a time of day"),
        ("08:00-24:01", "has 24:01, which is not"),
        ("08:00-08:00", "ends when it begins; a whole day is 00:00-24:00"),
        ("fri 08:00-fri 08:00", "ends when it begins"),
        ("sun 24:00-mon 00:00", "has 24:00, which is not"),
        ("mon," * 100 + "mon", "is too long"),
    ],
)
def test_what_is_no_span(text: str, reason: str) -> None:
    """The reason names the word that is wrong."""
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse_span(text)


@given(st.text(alphabet="monfriw 0123456789:-,;", max_size=30))
@example("mon-" * 60)
def test_any_text_is_a_span_or_a_value_error(text: str) -> None:
    """Nothing else comes out, whatever somebody types; and a span that came out can be written."""
    with suppress(ValueError):
        span = parse_span(text)
        written = str(span)
        assert parse_span(written) == span


@pytest.mark.parametrize("text", ["", "24:00", "18", "6pm", "18:00:00", "18:60", "-1:00"])
def test_what_is_no_time_of_day(text: str) -> None:
    """Only hours and minutes, from 00:00 to 23:59."""
    with pytest.raises(ValueError, match="is not a time of day"):
        parse_time_of_day(text)


# --- the days on which the clocks are changed ----------------------------------------------------------


def test_quiet_hours_over_the_change_keep_their_wall_clock_times() -> None:
    """Quiet from 22:00 to 06:00 lasts seven hours on the night that is an hour shorter, nine on the other."""
    night = calendar(quiet="22:00-06:00")
    for evening, morning, hours in (
        ("2026-03-07T22:00", "2026-03-08T06:00", 7),
        ("2026-10-31T22:00", "2026-11-01T06:00", 9),
        ("2026-07-01T22:00", "2026-07-02T06:00", 8),
    ):
        begins = at(evening, NEW_YORK)
        assert night.next_closed(begins - timedelta(hours=3)) == begins
        assert night.next_open(begins) == at(morning, NEW_YORK) == begins + timedelta(hours=hours)
        assert night.next_open(begins - SECOND) == begins - SECOND


def test_hours_that_are_skipped_do_not_come() -> None:
    """On the day without a 02:30, rules within the skipped hour are void and others end with it."""
    day = at("2026-03-08T05:30")  # 00:30 in New York; 02:00 becomes 03:00 at 07:00 UTC
    assert calendar(quiet="02:15-02:45").next_closed(day) == at("2026-03-09T02:15", NEW_YORK)
    assert calendar(windows="02:15-02:45").next_open(day) == at("2026-03-09T02:15", NEW_YORK)
    assert calendar(windows="02:30-05:00").next_open(day) == at("2026-03-08T07:00")
    assert calendar(windows="01:00-02:30").next_closed(at("2026-03-08T06:30")) == at("2026-03-08T07:00")
    assert calendar(useless="02:30").useless_from(day) == at("2026-03-08T07:00")


def test_a_weekly_window_that_is_skipped_opens_a_week_later() -> None:
    """The longest wait that a change of the clocks can make is within the horizon."""
    window = calendar(windows="sun 02:15-02:45")
    closes = at("2026-03-01T02:45", NEW_YORK)
    assert window.next_open(closes) == at("2026-03-15T02:15", NEW_YORK)
    assert window.next_open(closes) - closes < HORIZON  # type: ignore[operator]  # never None: just compared


def test_hours_that_come_twice_count_twice() -> None:
    """Where 01:00 to 02:00 is shown twice, a rule for 01:00-01:30 holds, ends, and holds again."""
    shown_twice = calendar(quiet="01:00-01:30")
    moment = at("2026-11-01T00:00", NEW_YORK)
    seen = []
    for _ in range(2):
        closes = shown_twice.next_closed(moment)
        assert closes
        opens = shown_twice.next_open(closes)
        assert opens
        seen += [closes, opens]
        moment = opens
    assert [f"{each:%H:%M}" for each in seen] == ["05:00", "05:30", "06:00", "06:30"]
    useless = calendar(useless="01:30")
    assert useless.useless_from(at("2026-11-01T00:00", NEW_YORK)) == at("2026-11-01T05:30")
    assert useless.useless_from(at("2026-11-01T05:30")) == at("2026-11-01T06:30")


def test_half_an_hour_is_a_change_as_well() -> None:
    """Lord Howe moves its clocks by 30 minutes: 02:00 becomes 02:30."""
    window = calendar(LORD_HOWE, windows="02:15-04:00")
    assert window.next_open(at("2026-10-04T01:00", LORD_HOWE)) == at("2026-10-03T15:30")
    assert at("2026-10-03T15:30").astimezone(LORD_HOWE).strftime("%H:%M") == "02:30"


def test_a_day_that_a_zone_left_out() -> None:
    """Samoa went from 29 December 2011 to the 31st: the Friday's rules did not come, nor did its 18:00."""
    apia = ZoneInfo("Pacific/Apia")
    thursday = at("2011-12-29T20:00", apia)
    assert calendar(apia, windows="fri,sun").next_open(thursday) == at("2012-01-01T00:00", apia)
    assert calendar(apia, useless="18:00").useless_from(thursday) == at("2011-12-31T00:00", apia)


# --- what else is promised -----------------------------------------------------------------------------


def test_without_rules_attempts_may_always_start() -> None:
    """No rule: no objection, no end, never useless."""
    moment = at("2026-03-08T07:00:00.000001")
    assert ALWAYS.ever_opens
    assert ALWAYS.objection(moment) is None
    assert ALWAYS.next_open(moment) == moment
    assert ALWAYS.next_closed(moment) is None
    assert ALWAYS.useless_from(moment) is None


def test_objections_name_the_rule() -> None:
    """A person reads which rule it was, as it was written, and where its clock hangs."""
    noon = at("2026-07-01T12:00", LONDON)
    both = calendar(LONDON, quiet="22:00-6:00; wed 11:00-13:00", windows="thu 12:00-13:00")
    assert both.objection(noon) == "quiet hours wed 11:00-13:00 Europe/London"
    assert calendar(LONDON, windows="thu; fri 9:00-10:00").objection(noon) == (
        "hours outside the windows thu; fri 09:00-10:00 Europe/London"
    )
    many = calendar(LONDON, windows="; ".join(f"0{n}:00-0{n}:30" for n in range(9)))
    assert many.objection(noon) == (
        "hours outside the windows 00:00-00:30; 01:00-01:30; 02:00-02:30 and 6 more Europe/London"
    )


def test_rules_that_exclude_each_other_never_open() -> None:
    """Nothing is left of the week: that is said, and not looked for without end."""
    never = calendar(quiet="22:00-06:00", windows="mon-fri 23:00-05:00")
    assert not never.ever_opens
    assert never.next_open(at("2026-07-01T12:00")) is None
    assert calendar(quiet="mon-fri; sat,sun").next_open(at("2026-07-01T12:00")) is None


def test_useless_after_a_while() -> None:
    """A duration counts from the failure, through a change of the clocks too."""
    rules = Calendar(NEW_YORK, useless_after=timedelta(hours=6))
    assert rules.useless_from(at("2026-03-08T06:00")) == at("2026-03-08T12:00")


def test_moments_of_any_zone_give_moments_in_utc() -> None:
    """A moment with another zone's clock is the same moment, and what comes out is UTC."""
    here = datetime(2026, 3, 8, 1, 30, tzinfo=NEW_YORK)
    rules = calendar(quiet="01:00-03:30", useless="03:00")
    for found in (rules.next_open(here), rules.useless_from(here)):
        assert found is not None
        assert found.tzinfo is UTC
    assert rules.next_open(here) == at("2026-03-08T07:30")
