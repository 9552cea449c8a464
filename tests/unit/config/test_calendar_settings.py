"""The calendar's settings: zones, spans and the time from which on a retry is useless, in both places."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from config.catalog import VARIABLES, rows
from config.schema import Settings
from config.zones import ZoneNameError, parse_zone
from worker.domain.calendar import ALWAYS, Calendar, Span, parse_span
from worker.domain.policy import Policy

Load = Callable[..., Settings]
Lines = Callable[..., list[str]]

NEW_YORK = ZoneInfo("America/New_York")


def spans(*texts: str) -> tuple[Span, ...]:
    return tuple(map(parse_span, texts))


@pytest.fixture
def entry(load: Load, tmp_path: Path) -> Callable[..., Policy]:
    """Returns the policy of an entry with the given lines."""

    def of(body: str, **changes: str) -> Policy:
        path = tmp_path / "p.toml"
        path.write_text(f'[[policy]]\nworkflow = "A"\n{body}\n', encoding="utf-8")
        return load(RETRY_POLICY_FILE=str(path), **changes).policies.for_workflow("A", "")[0]

    return of


@pytest.fixture
def mistakes(lines: Lines, tmp_path: Path) -> Callable[..., list[str]]:
    """Returns the problems of an entry with the given lines, and of the variables."""

    def of(body: str, **changes: str) -> list[str]:
        path = tmp_path / "p.toml"
        path.write_text(f'[[policy]]\nworkflow = "A"\n{body}\n', encoding="utf-8")
        found = lines(RETRY_POLICY_FILE=str(path), **changes)
        return [line.removeprefix("RETRY_POLICY_FILE, p.toml entry 1, ") for line in found]

    return of


# --- variables -------------------------------------------------------------------------------------------


def test_the_calendar_is_made_of_its_variables(load: Load) -> None:
    """Each of the four arrives where it belongs; without them there are no rules."""
    assert load().policy.calendar == ALWAYS
    settings = load(
        RETRY_TIMEZONE="America/New_York",
        RETRY_QUIET_HOURS="22:00-06:00; sun",
        RETRY_WINDOWS="mon-fri 08:00-23:00;",
        RETRY_USELESS_AFTER="18:00",
    )
    expected = Calendar(NEW_YORK, spans("22:00-06:00", "sun"), spans("mon-fri 08:00-23:00"), time(18))
    assert settings.policy.calendar == expected
    assert settings.policies.default.calendar == expected
    assert pickle.loads(pickle.dumps(settings)).policy == settings.policy


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("RETRY_TIMEZONE", "america/new_york", NEW_YORK),
        ("RETRY_TIMEZONE", " America/New York ", NEW_YORK),
        ("RETRY_TIMEZONE", "", ZoneInfo("UTC")),
        ("RETRY_QUIET_HOURS", "", ()),
        ("RETRY_QUIET_HOURS", " ; ", ()),
        ("RETRY_WINDOWS", "MON 8:00-9:00;;tue", spans("mon 08:00-09:00", "tue")),
        ("RETRY_USELESS_AFTER", "", None),
        ("RETRY_USELESS_AFTER", " 6:30 ", time(6, 30)),
        ("RETRY_USELESS_AFTER", "00:00", time(0)),
        ("RETRY_USELESS_AFTER", "1h30m", timedelta(minutes=90)),
        ("RETRY_USELESS_AFTER", "PT6H", timedelta(hours=6)),
    ],
)
def test_accepted(name: str, text: str, value: Any, load: Load) -> None:
    """What people write for it is taken; nothing means UTC, no spans, never."""
    assert VARIABLES[name].value_in(load(**{name: text})) == value


@pytest.mark.parametrize(
    ("name", "text", "takes"),
    [
        ("RETRY_TIMEZONE", "New_York", "such as America/New_York, Europe/London or UTC; did you mean"),
        ("RETRY_TIMEZONE", "Europe/Londn", "; did you mean Europe/London"),
        ("RETRY_TIMEZONE", "eastern", "; did you mean Canada/Eastern or US/Eastern?"),
        ("RETRY_TIMEZONE", "xyzzy", "such as America/New_York, Europe/London or UTC"),
        ("RETRY_TIMEZONE", "America", "the IANA name of a time zone"),
        ("RETRY_TIMEZONE", "/etc/passwd", "the IANA name of a time zone"),
        ("RETRY_TIMEZONE", "../UTC", "the IANA name of a time zone"),
        ("RETRY_TIMEZONE", "x" * 10_000, "the IANA name of a time zone"),
        (
            "RETRY_QUIET_HOURS",
            "night",
            'separated by semicolons; "night" has night, which is not a day of the week',
        ),
        ("RETRY_QUIET_HOURS", "22:00-06:00, sun", '"22:00-06:00, sun" is not one'),
        ("RETRY_WINDOWS", "mon; 8:00-25:00", '"8:00-25:00" has 25:00, which is not a time of day'),
        ("RETRY_WINDOWS", "9:00-9:00", '"9:00-9:00" ends when it begins; a whole day is 00:00-24:00'),
        ("RETRY_WINDOWS", "mon;" * 51, "separated by semicolons; at most 50"),
        ("RETRY_USELESS_AFTER", "18", "takes a time of day such as 18:00, or a duration with its unit"),
        ("RETRY_USELESS_AFTER", "1.5", "takes a time of day such as 18:00, or a duration with its unit"),
        ("RETRY_USELESS_AFTER", "24:00", "takes a time of day such as 18:00"),
        ("RETRY_USELESS_AFTER", "6pm", "takes a time of day such as 18:00"),
        ("RETRY_USELESS_AFTER", "0s", "longer than zero"),
        ("RETRY_USELESS_AFTER", "-6h", "takes a time of day such as 18:00"),
    ],
)
def test_refused(name: str, text: str, takes: str, lines: Lines) -> None:
    """One line that says what the variable takes and, where it can, what is wrong or was meant."""
    (line,) = lines(**{name: text})
    assert line.startswith(f'{name}: got "{text[:80]}')
    assert takes in line
    assert line.isprintable()


def test_shown_as_one_would_write_it(load: Load) -> None:
    """`kinetic-retry config` prints values that can be set again."""
    given = {
        "RETRY_TIMEZONE": "America/New_York",
        "RETRY_QUIET_HOURS": "22:00-06:00; sat,sun",
        "RETRY_WINDOWS": "fri 18:00-mon 08:00",
        "RETRY_USELESS_AFTER": "18:00",
    }
    shown = {row.variable: row.value for row in rows(load(**given))}
    assert {name: shown[name] for name in given} == given
    defaults = {row.variable: row.value for row in rows(load())}
    assert [defaults[name] for name in given] == ["UTC", "", "", ""]


@pytest.mark.parametrize(
    ("changes", "takes"),
    [
        ({"RETRY_QUIET_HOURS": "00:00-24:00"}, "takes spans that leave some time of the week"),
        ({"RETRY_QUIET_HOURS": "22:00-06:00; 6:00-22:00"}, "takes spans that leave some time of the week"),
        (
            {"RETRY_QUIET_HOURS": "mon-fri", "RETRY_WINDOWS": "mon-fri 8:00-18:00"},
            "takes spans that leave some time of the week with RETRY_WINDOWS (mon-fri 08:00-18:00)",
        ),
    ],
)
def test_a_calendar_that_never_opens_is_refused(changes: dict[str, str], takes: str, lines: Lines) -> None:
    """Failures would wait until their deadline, one after the other, and nobody would know why."""
    (line,) = lines(**changes)
    assert line == f'RETRY_QUIET_HOURS: got "{changes["RETRY_QUIET_HOURS"]}", {takes}'


# --- the policy file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('timezone = "Europe/London"', {"timezone": ZoneInfo("Europe/London")}),
        ('quiet_hours = ["22:00-5:00", "sat,sun"]', {"quiet": spans("22:00-05:00", "sat,sun")}),
        ('quiet_hours = "sun"', {"quiet": spans("sun")}),
        ('quiet_hours = ""', {"quiet": ()}),
        ("quiet_hours = []", {"quiet": ()}),
        ('windows = ["mon; tue", "wed"]', {"windows": spans("mon", "tue", "wed")}),
        ("windows = []", {"windows": ()}),
        ('useless_after = "6h"', {"useless_after": timedelta(hours=6)}),
        ('useless_after = ""', {"useless_after": None}),
        ("useless_after = 17:30:00", {"useless_after": time(17, 30)}),
    ],
)
def test_an_entry_inherits_each_key_singly(
    body: str, expected: dict[str, Any], entry: Callable[..., Policy]
) -> None:
    """An entry changes the key that it names, back to nothing too, and keeps the other three."""
    inherited: dict[str, Any] = {
        "timezone": NEW_YORK,
        "quiet": spans("23:00-24:00"),
        "windows": spans("06:00-24:00"),
        "useless_after": time(18),
    }
    policy = entry(
        body,
        RETRY_TIMEZONE="America/New_York",
        RETRY_QUIET_HOURS="23:00-24:00",
        RETRY_WINDOWS="06:00-24:00",
        RETRY_USELESS_AFTER="18:00",
    )
    assert policy == Policy(calendar=Calendar(**(inherited | expected)))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('timezone = "Europe/Londn"', 'timezone: got "Europe/Londn", takes the IANA name of a time zone'),
        ("timezone = ['UTC']", "timezone: got a list, takes the IANA name of a time zone"),
        ("quiet_hours = 3", "quiet_hours: got 3, takes spans such as 22:00-06:00"),
        ("quiet_hours = ['sun', 3]", "quiet_hours: got a list, takes spans such as 22:00-06:00"),
        ("windows = true", "windows: got true, takes spans such as"),
        ("useless_after = 18", "useless_after: got 18, takes a time of day such as 18:00, or a duration"),
        ("useless_after = 1.5", "useless_after: got 1.5, takes a time of day such as 18:00, or a duration"),
        ("useless_after = 18:00:01", "useless_after: got a date or time, takes a time of day such as 18:00"),
        (
            "useless_after = 2026-07-01",
            "useless_after: got a date or time, takes a time of day such as 18:00",
        ),
        ('quiet_hours = "00:00-24:00"', 'quiet_hours: got "00:00-24:00", takes spans that leave some time'),
    ],
)
def test_mistake_in_an_entry(body: str, problem: str, mistakes: Callable[..., list[str]]) -> None:
    """The same words as for the variables."""
    (line,) = mistakes(body)
    assert line.startswith(problem)


def test_the_span_that_is_wrong_is_named(mistakes: Callable[..., list[str]]) -> None:
    """A list is not shown; the part of it that matters is."""
    (line,) = mistakes("quiet_hours = ['sun', 'moon']")
    assert line.endswith('"moon" has moon, which is not a day of the week')


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            'windows = "sun"',
            'windows: got "sun", takes spans that leave some time of the week '
            "with quiet_hours (sun, inherited)",
        ),
        (
            'quiet_hours = ["mon-sat"]',
            "quiet_hours: got a list, takes spans that leave some time of the week "
            "with windows (mon-sat 08:00-18:00, inherited)",
        ),
        (
            'quiet_hours = "mon"\nwindows = "mon 9:00-10:00"',
            'quiet_hours: got "mon", takes spans that leave some time of the week '
            "with windows (mon 09:00-10:00)",
        ),
    ],
)
def test_an_entry_that_never_opens(body: str, problem: str, mistakes: Callable[..., list[str]]) -> None:
    """The problem is that of a key that the entry has, and says what it excludes."""
    given = {"RETRY_QUIET_HOURS": "sun", "RETRY_WINDOWS": "mon-sat 8:00-18:00"}
    assert mistakes(body, **given) == [problem]


@pytest.mark.parametrize(
    "given", [{"RETRY_QUIET_HOURS": "mon-sun"}, {"RETRY_QUIET_HOURS": "x"}, {"RETRY_WINDOWS": "x"}]
)
def test_wrong_variable_is_not_blamed_on_entries(
    given: dict[str, str], mistakes: Callable[..., list[str]]
) -> None:
    """When the variables are wrong, an entry that inherits from them is not complained about as well."""
    for body in ('windows = "sun"', "max_attempts = 3"):
        assert [line.partition(":")[0] for line in mistakes(body, **given)] == list(given)


# --- zones -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("berlin", ("Europe/Berlin",)),
        ("new york", ("America/New_York",)),
        ("America/New_Yrok", ("America/New_York",)),
        ("Los_Angles", ("America/Los_Angeles",)),
        ("EDT", ()),
    ],
)
def test_the_nearest_zones(text: str, near: tuple[str, ...]) -> None:
    """A city without its region, and a slip of the keyboard, lead to the zone that was meant."""
    with pytest.raises(ZoneNameError) as error:
        parse_zone(text)
    assert error.value.near[: len(near)] == near
    assert bool(error.value.near) is bool(near)
