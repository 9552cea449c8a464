"""Durations: what is read, what is refused, and that both directions agree."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.durations import LONGEST, DurationRangeError, parse_duration
from worker.domain.durations import format_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("24h", 86_400),
        ("1h30m", 5_400),
        ("1h 30m", 5_400),
        ("500ms", 0.5),
        ("1s500ms", 1.5),
        ("1d12h", 129_600),
        ("90", 90),
        ("1.5h", 5_400),
        ("0.25", 0.25),
        (" 7s ", 7),
        ("0", 0),
        ("PT1H30M", 5_400),
        ("P1DT1S", 86_401),
        ("3650d", 315_360_000),
    ],
)
def test_spellings(text: str, seconds: float) -> None:
    """Every documented spelling means what it says."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "soon", "nan", "inf", "NaN", "1e3", "s", "5 minutes", "1h1h", "30m1h", "5M", "1,5h", "."),
        *("1.", "-", "--5s", "-soon", "+5s", "0x10", "٣s", "P", "PT", "1h\x00", "1" * 41, "P1D1H"),
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    """Anything else is a ValueError, and is not mistaken for a duration out of range."""
    with pytest.raises(ValueError, match="is not a duration") as caught:
        parse_duration(text)
    assert not isinstance(caught.value, DurationRangeError)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-5s", "negative"),
        ("-1", "negative"),
        ("-PT1H", "negative"),
        ("3651d", "longer"),
        ("9" * 40, "longer"),
        ("9" * 38 + "h", "longer"),
    ],
)
def test_out_of_range_says_so(text: str, reason: str) -> None:
    """A duration that cannot be meant is refused with the reason, however large."""
    with pytest.raises(DurationRangeError, match=reason):
        parse_duration(text)


@given(st.timedeltas(timedelta(0), LONGEST))
def test_round_trip(duration: timedelta) -> None:
    """Reading back what was written gives the same duration, to the microsecond."""
    assert parse_duration(format_duration(duration)) == duration


@given(st.integers(0, 10**10), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_units_are_proportional(count: int, unit: str) -> None:
    """N units are N times one unit, or are refused as too long; nothing overflows."""
    one = parse_duration(f"1{unit}")
    try:
        assert parse_duration(f"{count}{unit}") == count * one
    except DurationRangeError:
        assert count > LONGEST / one


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes it fail in another way."""
    with contextlib.suppress(ValueError):
        assert timedelta(0) <= parse_duration(text) <= LONGEST


def test_negative_is_written_with_its_sign() -> None:
    """A negative difference can be shown, though it is never read."""
    assert format_duration(timedelta(seconds=-90)) == "-1m30s"
