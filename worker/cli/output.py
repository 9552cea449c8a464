"""How commands show things: times, durations, tables and untrusted text. They all wait for its imports."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta
from typing import Any

import click

from worker.domain.text import clean_text

NAME_CHARS = 48
WIDTH_OF_A_PIPE = 200
"""Columns where there is no terminal: programs that read tables want whole uuids."""


def echo_json(value: object) -> None:
    """Print a value as JSON; times as ISO 8601 UTC, durations in seconds."""
    click.echo(json.dumps(value, default=_plain, indent=2))


def iso(moment: datetime | None) -> str | None:
    """Return a moment as ISO 8601 UTC."""
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(moment: datetime, now: datetime) -> str:
    """Return a time of day in UTC, with the date when it is another day's."""
    same_day = moment.date() == now.date()
    return moment.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")


def ago(moment: datetime, now: datetime) -> str:
    """Return how far a moment is from now, in words."""
    if moment > now:
        return f"in {rough(moment - now)}"
    return f"{rough(now - moment)} ago"


def rough(duration: timedelta) -> str:
    """Return a duration for people: two units at most, seconds with a decimal below ten.

    >>> [rough(timedelta(seconds=s)) for s in (0.25, 4.26, 75, 3725, 200_000)]
    ['0.2s', '4.3s', '1m15s', '1h2m', '2d7h']
    """
    seconds = duration.total_seconds()
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for size, unit, small, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size}{unit}{rest}{smaller}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def name(text: str, limit: int = NAME_CHARS) -> str:
    """Return untrusted text made safe for a terminal, with rich's markup switched off."""
    from rich.markup import escape

    safe = escape(clean_text(text, limit))
    backslashes = len(safe) - len(safe.rstrip("\\"))
    return safe + "\\" * (backslashes % 2)  # an odd one would escape the tag that follows


def console() -> Any:
    """Return a console for standard output; plain text when that is no terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_OF_A_PIPE
    return Console(highlight=False, emoji=False, soft_wrap=True, width=width)


def duration_option(_: click.Context, __: click.Parameter, text: str | None) -> timedelta | None:
    """Read an option that is a duration longer than zero; for click's `callback`."""
    from config.durations import parse_duration

    if text is None:
        return None
    try:
        duration = parse_duration(text)
    except ValueError:
        duration = timedelta(0)
    if not duration:
        raise click.BadParameter("takes a duration such as 500ms, 30s or 5m")
    return duration


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)
