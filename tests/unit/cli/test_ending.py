"""When a pause is to end: durations, moments in a zone, and times of day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner

from worker.cli.ending import Ending, ending, with_ending

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@click.command()
@with_ending
def command(lasts: timedelta | None, until: datetime | None, zone: object) -> None:
    chosen: Ending = ending(lasts, until, zone)  # type: ignore[arg-type]  # click's callback made it
    click.echo(str(chosen.after(NOON)))


def said(*words: str) -> str:
    return CliRunner().invoke(command, words).output.strip()


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        ((), "None"),
        (("--for", "2h"), "2026-11-24 14:00:00+00:00"),
        (("--for", "1h30m"), "2026-11-24 13:30:00+00:00"),
        (("--until", "2026-11-25 06:00"), "2026-11-25 06:00:00+00:00"),
        (("--until", "2026-11-25 06:00", "--zone", "Europe/Berlin"), "2026-11-25 05:00:00+00:00"),
        (("--until", "2026-11-25T06:00+02:00", "--zone", "Europe/Berlin"), "2026-11-25 04:00:00+00:00"),
        (("--until", "2026-11-25T06:00Z"), "2026-11-25 06:00:00+00:00"),
        (("--until", "18:00"), "2026-11-24 18:00:00+00:00"),
        (("--until", "06:00"), "2026-11-25 06:00:00+00:00"),
        (("--until", "12:00"), "2026-11-25 12:00:00+00:00"),
        (("--until", "06:00", "--zone", "America/New_York"), "2026-11-25 11:00:00+00:00"),
        (("--until", "13:30", "--zone", "Europe/Berlin"), "2026-11-24 12:30:00+00:00"),
        (("--until", "2027-03-28 03:00", "--zone", "Europe/Berlin"), "2027-03-28 01:00:00+00:00"),
    ],
)
def test_ends_are_moments_in_utc(words: tuple[str, ...], ends: str) -> None:
    """A date and time is in the zone unless it has an offset; a time of day is the next one."""
    assert said(*words) == ends


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--until", "2026-11-24 11:59"), "2026-11-24 11:59 UTC is over already"),
        (("--until", "2026-11-24"), "is over already"),  # midnight
        (("--until", "2027-03-28 02:30", "--zone", "Europe/Berlin"), "the clocks skip it"),
        (("--until", "tomorrow"), "takes 2026-11-25 06:00"),
        (("--until", "06"), "takes 2026-11-25 06:00"),
        (("--until", "06:00+01:00"), "takes 2026-11-25 06:00"),
        (("--until", "06:00", "--zone", "Berlin"), "takes a name such as UTC"),
        (("--until", "06:00", "--zone", "../../etc/passwd"), "takes a name such as UTC"),
        (("--until", "06:00", "--for", "2h"), "say either --for or --until"),
        (("--for", "0s"), "takes a duration"),
        (("--for", "soon"), "takes a duration"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(words: tuple[str, ...], why: str) -> None:
    """Never a pause that is over before it begins, or that ends when nobody meant it to."""
    assert why in said(*words)
