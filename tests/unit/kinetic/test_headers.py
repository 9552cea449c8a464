"""`Retry-After` and `Date`: what they ask and tell, and how little they are believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.kinetic.headers import DEFAULT_PAUSE, LARGEST_SKEW, http_date, pause_of, skew_of

NOW = datetime(2026, 1, 6, 10, tzinfo=UTC)
TEN = "Tue, 06 Jan 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        (" 30 ", 30),
        ("1.5", 1.5),
        ("0", 1),
        ("0.001", 1),
        ("86400", 3600),
        ("999999999", 3600),
        ("Tue, 06 Jan 2026 10:00:20 GMT", 20),
        ("Wed, 06 Jan 2027 10:00:00 GMT", 3600),
        (TEN, 1),
    ],
)
def test_a_sensible_pause_is_honoured_within_bounds(value: str, seconds: float) -> None:
    """Seconds or a date; never below a second, never above an hour."""
    assert pause_of({"retry-after": value}, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-5",
        "NaN",
        "inf",
        "1e9",
        "9" * 5000,
        "soon",
        "٣٠",
        "0x10",
        "Mon, 05 Jan 2026 10:00:00 GMT",
        "30 s",
        "\x00",
    ],
)
def test_nonsense_reads_as_the_default(value: str) -> None:
    """A wrong header must neither hammer the API nor stop the worker."""
    assert pause_of({"retry-after": value}, NOW) == DEFAULT_PAUSE
    assert pause_of({}, NOW) == DEFAULT_PAUSE


def test_a_date_is_relative_to_the_answers_own_date() -> None:
    """The API's clock may be an hour off: its two dates still agree."""
    headers = {"retry-after": "Tue, 06 Jan 2026 11:00:20 GMT", "date": "Tue, 06 Jan 2026 11:00:00 GMT"}
    assert pause_of(headers, NOW) == timedelta(seconds=20)


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_header_raises(retry_after: str, date: str) -> None:
    """Any text gives a pause within bounds."""
    pause = pause_of({"retry-after": retry_after, "date": date}, NOW)
    assert timedelta(seconds=1) <= pause <= timedelta(hours=1)
    skew_of({"date": date}, NOW, NOW)


def test_skew_takes_the_middle_of_the_round_trip() -> None:
    """`Date` 10:00:00 means 10:00:00.5 on average; asked at 09:59:50, answered at 09:59:52."""
    asked = NOW - timedelta(seconds=10)
    skew = skew_of({"date": TEN}, asked, asked + timedelta(seconds=2))
    assert skew == timedelta(seconds=9.5)


@pytest.mark.parametrize("off_s", [-1.5, 0.0, 1.0, 2.5])
def test_clocks_that_agree_do_not_dance(off_s: float) -> None:
    """What the header's whole seconds cannot tell apart is no skew."""
    assert skew_of(
        {"date": TEN}, NOW + timedelta(seconds=off_s), NOW + timedelta(seconds=off_s)
    ) == timedelta(0)


@pytest.mark.parametrize(
    "headers",
    [{}, {"date": ""}, {"date": "x"}, {"date": TEN, "age": "5"}, {"date": "Fri, 31 Dec 9999 23:59:59 GMT"}],
)
def test_an_answer_that_tells_no_time_teaches_none(headers: dict[str, str]) -> None:
    """Absent, cached or absurd."""
    assert skew_of(headers, NOW, NOW) is None


def test_a_skew_beyond_a_day_is_nonsense() -> None:
    """No execution would have a believable time then."""
    assert skew_of({"date": TEN}, NOW - LARGEST_SKEW, NOW - LARGEST_SKEW) is None


@pytest.mark.parametrize("value", ["Tue, 06 Jan 2026 10:00:00 -0000", "Tue, 06 Jan 2026 12:00:00 +0200", TEN])
def test_dates_are_utc(value: str) -> None:
    """Whatever zone they were written in."""
    assert http_date(value) == NOW
