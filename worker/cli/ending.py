"""When something that a person begins is to end: `--for 2h`, or `--until '2026-11-25 06:00'` in a zone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from worker.cli.output import duration_option

FORMATS = "2026-11-25 06:00, 2026-11-25T06:00+01:00, or 06:00 for the next time that the clock shows it"
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Ending:
    """The end that a person asked for; nothing of it set = none.

    Attributes:
        lasts: so long from now on.
        until: a date and time, or a time of day; without an offset of its own it is in `zone`.
    """

    lasts: timedelta | None = None
    until: datetime | time | None = None
    zone: ZoneInfo = _UTC

    def after(self, now: datetime) -> datetime | None:
        """Return the moment in UTC, as asked for at `now`; None for none.

        Raises:
            click.BadParameter: it is over already, or the clocks of its zone skip it.
        """
        if self.lasts is not None:
            return now + self.lasts
        if self.until is None:
            return None
        moment = self._moment(self.until, now)
        if moment <= now:
            raise click.BadParameter(f"{moment:%Y-%m-%d %H:%M} UTC is over already", param_hint="--until")
        return moment

    def _moment(self, until: datetime | time, now: datetime) -> datetime:
        if isinstance(until, datetime):
            return _in_utc(until if until.tzinfo else until.replace(tzinfo=self.zone))
        today = now.astimezone(self.zone).date()
        moment = _in_utc(datetime.combine(today, until, self.zone))
        return (
            moment if moment > now else _in_utc(datetime.combine(today + timedelta(days=1), until, self.zone))
        )


def with_ending(action: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--for`, `--until` and `--zone`."""
    for decorate in (
        click.option(
            "--zone", default="UTC", callback=_zone, show_default=True, help="Of --until: Europe/Berlin, …"
        ),
        click.option("--until", callback=_until, metavar="TIME", help=f"Its end: {FORMATS}."),
        click.option(
            "--for", "lasts", callback=duration_option, metavar="DURATION", help="How long: 90m, 2h, …"
        ),
    ):
        action = decorate(action)
    return action


def ending(lasts: timedelta | None, until: datetime | time | None, zone: ZoneInfo) -> Ending:
    """Return what the options say together; both ends at once are wrong usage."""
    if lasts is not None and until is not None:
        raise click.UsageError("say either --for or --until")
    return Ending(lasts, until, zone)


def _in_utc(local: datetime) -> datetime:
    moment = local.astimezone(UTC)
    if moment.astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None):
        shown = f"{local:%Y-%m-%d %H:%M}"
        raise click.BadParameter(f"there is no {shown} there: the clocks skip it", param_hint="--until")
    return moment


def _zone(_: click.Context, __: click.Parameter, text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.BadParameter("takes a name such as UTC or Europe/Berlin") from None


def _until(_: click.Context, __: click.Parameter, text: str | None) -> datetime | time | None:
    if text is None:
        return None
    for read in (time.fromisoformat, datetime.fromisoformat):
        try:
            read_as: datetime | time = read(text.strip())
        except ValueError:
            continue
        if isinstance(read_as, datetime) or (read_as.tzinfo is None and ":" in text):
            return read_as
    raise click.BadParameter(f"takes {FORMATS}")
