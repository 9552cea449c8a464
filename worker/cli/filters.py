"""The options by which people choose lineages, the same for every command that takes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from worker.domain.lineage import State
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.listing import Filter

Command = TypeVar("Command", bound=Callable[..., Any])
ANY = (None, None)
_RANGE = re.compile(r"(?P<one>[0-9]{1,4})|(?P<least>[0-9]{0,4})-(?P<most>[0-9]{0,4})")


class Moment(click.ParamType[datetime | timedelta]):
    """How long ago (`2h`, `7d`), or a moment (`2026-03-01`, `2026-03-01T12:00Z`; UTC unless it says)."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime | timedelta:
        """Return what the text means."""
        from config.durations import parse_duration

        if isinstance(value, datetime | timedelta):
            return value
        try:
            return parse_duration(str(value))
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(str(value).strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("takes how long ago (2h, 7d) or a moment (2026-03-01T12:00Z)", param, ctx)


MOMENT = Moment()


def at(said: datetime | timedelta | None, now: datetime) -> datetime | None:
    """Return the moment that somebody said, cut to milliseconds as the ledger's times are."""
    if said is None:
        return None
    return from_ms(to_ms(said if isinstance(said, datetime) else now - said))


class Attempts(click.ParamType[tuple[int | None, int | None]]):
    """A number of attempts, or from one to another: `3`, `2-4`, `3-`, `-1`."""

    name = "attempts"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        """Return the fewest and the most; None = any."""
        if isinstance(value, tuple):
            return value
        match = _RANGE.fullmatch(str(value))
        if match is None or not (match["one"] or match["least"] or match["most"]):
            self.fail("takes a number or a range of them: 3, 2-4, 3- or -1", param, ctx)
        if match["one"]:
            return int(match["one"]), int(match["one"])
        least, most = (int(match[part]) if match[part] else None for part in ("least", "most"))
        if least is not None and most is not None and least > most:
            self.fail("begins with the smaller number: 2-4", param, ctx)
        return least, most


@dataclass(frozen=True, slots=True)
class Chosen:
    """What somebody chose; `at` makes a filter of it once the time of the Redis server is known."""

    states: tuple[State, ...] = ()
    workflows: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    attempts: tuple[int | None, int | None] = ANY
    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None

    def at(self, now: datetime) -> Filter:
        """Return the filter that this means at a moment."""
        return Filter(
            states=self.states,
            workflows=self.workflows,
            reasons=self.reasons,
            attempts_min=self.attempts[0],
            attempts_max=self.attempts[1],
            since=at(self.since, now),
            until=at(self.until, now),
        )


def filter_options(
    states: Sequence[State] = tuple(State), *, decides: bool = False
) -> Callable[[Command], Command]:
    """Return a decorator that gives a command the options, and hands them to it as `chosen`.

    Args:
        states: what `--state` offers. One alone is what is chosen always, without an option.
        decides: whether the command puts a person's decision on record: then `--reason` is theirs, and the
            lineages' own is `--verdict` only.
    """
    names_of_reason = ["--verdict"] if decides else ["--reason", "--verdict"]
    options = [
        click.option(
            "--workflow", "workflows", multiple=True, metavar="NAME|UUID", shell_complete=complete_workflows,
            help="Only this workflow: its uuid, or its name with * and ?. May be repeated.",
        ),
        click.option(
            *names_of_reason, "reasons", multiple=True, metavar="REASON", shell_complete=complete_reasons,
            help="Only with this reason, with * and ?. May be repeated.",
        ),
        click.option(
            "--attempts", type=Attempts(), metavar="N|N-M",
            help="Only with so many attempts made: 3, 2-4, 3- or -1.",
        ),
        click.option(
            "--since", type=MOMENT, metavar="WHEN",
            help="Only those in their state since this moment or later: 2h (ago), 2026-03-01T12:00Z.",
        ),
        click.option(
            "--until", type=MOMENT, metavar="WHEN",
            help="Only those in their state since before this moment: 7d leaves out what is younger.",
        ),
    ]  # fmt: skip
    if len(states) > 1:
        names = [state.value for state in states]
        options.insert(
            0,
            click.option(
                "--state",
                "states",
                multiple=True,
                type=click.Choice(names),
                help="Only this state. May be repeated.",
            ),
        )

    def decorate(command: Command) -> Command:
        @wraps(command)
        def called(*args: Any, **values: Any) -> Any:
            said = {name: values.pop(name) for name in ("workflows", "reasons", "since", "until")}
            said["attempts"] = values.pop("attempts") or ANY
            wanted = tuple(State(each) for each in values.pop("states", ()))
            always = () if len(states) == len(State) else tuple(states)
            return command(*args, chosen=Chosen(states=wanted or always, **said), **values)

        for option in reversed(options):
            called = option(called)
        return called  # type: ignore[return-value]  # click's decorators keep what they decorate

    return decorate


def complete_workflows(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of workflows that the ledger knows, where it answers at once; else nothing."""
    return _offer(incomplete, "workflows")


def complete_reasons(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the reasons that lineages have now."""
    return _offer(incomplete, "reasons")


def _offer(incomplete: str, what: str) -> list[CompletionItem]:
    from worker.cli.completion import known

    folded = incomplete.casefold()
    return [CompletionItem(each) for each in known(what) if each.casefold().startswith(folded)]
