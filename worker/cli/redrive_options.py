"""What `redrive` is asked with: which lineages, and on what terms. And how a person types the same again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from click.core import ParameterSource

from worker.cli.filters import filter_options
from worker.cli.person import Person
from worker.cli.redriving import DEAD
from worker.domain.redrive_plan import Plan

Command = Callable[..., Any]
_RATE = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)(?:/(?P<per>[smh]))?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, None: 1}
MOST_PER_SECOND = 1000
MOST_IN_FLIGHT = 1000


class RateType(click.ParamType[float]):
    """Releases per second, as people say it: `1/s`, `30/m`, `500/h`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return how many a second."""
        if isinstance(value, float):
            return value
        match = _RATE.fullmatch(str(value).strip())
        rate = float(match["count"]) / _SECONDS[match["per"]] if match else 0
        if not 0 < rate <= MOST_PER_SECOND:
            most = f"{MOST_PER_SECOND}/s at most"
            self.fail(f"takes releases per second, minute or hour: 1/s, 30/m, 500/h; {most}", param, ctx)
        return rate


def rate(per_second: float) -> str:
    """Return a rate as people say it.

    >>> [rate(each) for each in (2.0, 0.5, 500 / 3600, 1 / 7)]
    ['2/s', '30/m', '500/h', '514/h']
    """
    for seconds, unit in ((1, "s"), (60, "m")):
        count = per_second * seconds
        if count >= 1 and abs(count - round(count)) < 1e-6:  # noqa: PLR2004  # what floats make of a third
            return f"{round(count)}/{unit}"
    return f"{per_second * 3600:.3g}/h"


@dataclass(frozen=True, slots=True)
class Terms:
    """How it is to go, and what a person said with it."""

    canary: int
    rate: float
    stop_share: float
    in_flight: int

    def plan(self, chosen: str, person: Person | None, now: datetime) -> Plan:
        """Return the plan of a redrive that has not begun: without an id and a total."""
        by, why = (person.by, person.why) if person else ("", "")
        return Plan(
            *("", by, why, chosen, 0, now),
            canary=self.canary,
            rate=self.rate,
            stop_share=self.stop_share,
            in_flight=self.in_flight,
        )


def choosing(command: Command) -> Command:
    """Give it the filter's options; the reason of a verdict is `--verdict`: `--reason` is a person's own."""
    command = filter_options(DEAD)(command)
    for option in command.__click_params__:  # type: ignore[attr-defined]  # where click keeps them
        if option.name == "reasons":
            option.opts = ["--verdict"]
            option.help = "Only with this reason, with * and ?: attempts_used_up. May be repeated."
        if option.name == "states":
            option.help = "Only in this state; exhausted unless told otherwise. May be repeated."
    return command


def terms(command: Command) -> Command:
    """Give it how the redrive is to go, and what a person says with it."""
    options = [
        click.option(
            "--canary", type=click.IntRange(0, 1000), default=5, show_default=True,
            help="Try so many first, of all workflows, and judge all of them before anything else goes.",
        ),
        click.option(
            "--rate", type=RateType(), default="1/s", show_default=True, metavar="N/s|m|h",
            help="Release no more than so many per second, minute or hour.",
        ),
        click.option(
            "--in-flight", type=click.IntRange(1, MOST_IN_FLIGHT), default=20, show_default=True,
            help="Have no more than so many under way at once.",
        ),
        click.option(
            "--stop-share", type=click.FloatRange(0, 1), default=0.5, show_default=True,
            help="Stop when more than this share failed again, of the canary or of the newest 20; 1 = never.",
        ),
        click.option("--yes", is_flag=True, help="Do it, instead of only saying what would be done."),
        click.option("--reason", metavar="TEXT", help="Why; kept on record with who. Required with --yes."),
        click.option("--by", metavar="NAME", help="Who decided, beside who runs the command."),
        click.option(
            "--watch/--no-watch", "watched", default=None,
            help="Show how it goes once it is begun: done on a terminal unless told otherwise.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print an object."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def command_for(ctx: click.Context) -> str:
    """Return what a person types to do what was planned."""
    words = ["kinetic-retry", "redrive"]
    for param in ctx.command.params:
        given = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if not given or param.name in ("as_json", "yes", "reason", "watched"):
            continue
        value = ctx.params[param.name or ""]
        for each in value if param.multiple else [value]:
            words += [param.opts[0], rate(each) if param.name == "rate" else _as_typed(each)]
    return f"{shlex.join(words)} --yes --reason 'why'"


def _as_typed(value: object) -> str:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return f"{value.total_seconds():g}s"
        case (least, most):
            return str(least) if least == most else f"{'' if least is None else least}-{most or ''}"
    return str(value)


def refuse_options(ctx: click.Context) -> None:
    """Refuse options that were given before one of the group's commands: it would not heed them."""
    for param in ctx.command.params:
        if ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{param.opts[0]} goes with `redrive` alone, not before a command of it", ctx
            )
