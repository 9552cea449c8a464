"""Untrusted text on a terminal, and durations, times and tables for people and programs."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from worker.cli import output

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def shown(markup: str) -> str:
    stream = io.StringIO()
    Console(file=stream, width=10_000, highlight=False, emoji=False, soft_wrap=True).print(markup)
    return stream.getvalue().rstrip("\n")


@given(st.text(max_size=60))
def test_no_name_disturbs_the_markup_around_it(text: str) -> None:
    """Whatever it holds, the tags around it work and what follows is printed."""
    assert shown(f"[bold]{output.name(text)}[/] after").endswith(" after")


@pytest.mark.parametrize("text", ["[bold red]x[/]", "[/]", "[link=https://example.com]x[/link]", ":bomb:"])
def test_markup_is_shown_as_it_is_written(text: str) -> None:
    """A name is never markup."""
    assert shown(output.name(text)) == text


@pytest.mark.parametrize("backslashes", [1, 2, 3, 4, 5])
def test_backslashes_at_the_end_do_not_escape_the_next_tag(backslashes: int) -> None:
    """The closing tag stays a tag."""
    assert "[/]" not in shown(f"[bold]{output.name('x' + chr(92) * backslashes)}[/]!")


def test_a_cut_name_is_cut_before_it_is_escaped() -> None:
    """No half of an escape is left at the cut."""
    assert shown(f"[dim]{output.name('abcdefg[red]', 9)}[/]!") == "abcdefg[…!"


def test_times_of_another_day_carry_the_date() -> None:
    """A time of day alone would be read as today's."""
    assert output.clock(NOW, NOW) == "12:00:00"
    assert output.clock(NOW - timedelta(days=1), NOW) == "2026-02-28 12:00:00"
    assert output.ago(NOW - timedelta(seconds=75), NOW) == "1m15s ago"
    assert output.ago(NOW + timedelta(hours=2), NOW) == "in 2h"


def test_json_has_times_in_utc_and_durations_in_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """What programs read."""
    output.echo_json({"at": NOW, "took": timedelta(minutes=1), "name": "\x1b[31m\u202e"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"at": "2026-03-01T12:00:00.000Z", "took": 60.0, "name": "\x1b[31m\u202e"}
    assert printed.isascii()
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    ("text", "code"), [("2s", 0), ("1m", 0), ("soon", 2), ("0", 2), ("-1s", 2), ("nan", 2), ("", 2)]
)
def test_a_duration_option_takes_durations_longer_than_zero(text: str, code: int) -> None:
    """Anything else is wrong usage, said in a line."""

    @click.command()
    @click.option("--every", callback=output.duration_option)
    def command(every: timedelta | None) -> None:
        assert every

    result = CliRunner().invoke(command, ["--every", text])
    assert result.exit_code == code
    assert code == 0 or "takes a duration such as" in result.output
