"""`policy explain`: which policy applies to a workflow, and when its attempts fall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from worker.cli import rules
from worker.cli.backtest import backtest_command
from worker.cli.output import console, echo_json, iso, name, rough
from worker.cli.session import settings
from worker.domain.policy import Policy, PolicyBook, delay_band

BAR_CHARS = 30
RULE_CHARS = 10


@click.group()
def policy() -> None:
    """Look at retry policies."""


policy.add_command(backtest_command)


@policy.command()
@click.option(
    "--workflow", metavar="NAME|UUID", default="", help="A workflow's name or uuid; default: any other."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def explain(workflow: str, as_json: bool) -> None:
    """Say which policy applies to a workflow, and when its attempts fall if it fails now.

    Each run is taken to fail at once; real runs push the later attempts back by the time they take.
    An attempt may come sooner (prompt) or later (breaker, limits, calendar) than the backoff says.

    \b
    Examples:
      kinetic-retry policy explain
      kinetic-retry policy explain --workflow 'Eligibility checks'
    """
    config = settings()
    book = config.policies
    chosen, entry = book.for_workflow(workflow, workflow)
    now = datetime.now(UTC)
    attempts = _attempts(chosen, now)
    if as_json:
        entries = [
            {
                "name": each.name,
                "workflow": list(each.name_globs),
                "matches": each.matches(workflow, workflow),
            }
            for each in book.entries
        ]
        told = _object(chosen, entry, attempts) | rules.as_object(chosen, config)
        echo_json({"workflow": workflow, "entries": entries, **told})
        return
    screen = console()
    for line in [*_entries(book, workflow, entry), *_rules(chosen)]:
        screen.print(line)
    if attempts and chosen.enabled:
        for called, says in rules.in_words(chosen, config):
            screen.print(f"  [bold]{called:<{RULE_CHARS}}[/] {says}")
        screen.print(_table(attempts, chosen, now))


def _attempts(chosen: Policy, now: datetime) -> list[dict[str, Any]]:
    """Return a row per attempt: the band of its delay and of when it falls; `cut`: past the deadline."""
    rows = []
    earliest = latest = timedelta(0)
    for number in range(1, chosen.max_attempts + 1):
        shortest, longest = delay_band(chosen, number)
        earliest, latest = earliest + shortest, latest + longest
        rows.append(
            {
                "attempt": number,
                "delay": (shortest, longest),
                "after": (earliest, latest),
                "at": (now + min(earliest, chosen.deadline), now + min(latest, chosen.deadline)),
                "cut": earliest > chosen.deadline,
                "may_be_cut": latest > chosen.deadline,
            }
        )
        if rows[-1]["cut"]:
            break
    return rows


def _entries(book: PolicyBook, workflow: str, entry: str) -> list[str]:
    who = f"the workflow {name(workflow)}" if workflow else "a workflow that no entry names"
    lines = [f"For {who} the policy [bold]{name(entry)}[/] applies."]
    if not book.entries:
        lines.append("[dim]There is no policy file (RETRY_POLICY_FILE): the default is for all.[/]")
    for each in book.entries:
        mark = "[green]✓[/]" if each.matches(workflow, workflow) else "[dim]·[/]"
        globs = ", ".join(each.name_globs)
        lines.append(f"  {mark} {name(each.name)} [dim]{name(globs, 120)}[/]")
    return lines


def _rules(chosen: Policy) -> list[str]:
    if not chosen.enabled:
        return ["[yellow]It is switched off: failures are recorded as rejected (policy_disabled).[/]"]
    if chosen.max_attempts == 0:
        return ["[yellow]It allows no attempts: failures are only reported.[/]"]
    from worker.domain.durations import format_duration

    growth = f" x {chosen.multiplier:g}" if chosen.backoff.value == "exponential" else ""
    return [
        f"{chosen.max_attempts} attempts, {chosen.backoff.value} backoff from "
        f"{format_duration(chosen.base_delay)}{growth}, at most {format_duration(chosen.max_delay)}, "
        f"{chosen.jitter.value} jitter; "
        f"none starts later than {format_duration(chosen.deadline)} after the first failure."
    ]


def _table(attempts: list[dict[str, Any]], chosen: Policy, now: datetime) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    span = min(max(row["after"][1] for row in attempts), chosen.deadline) or timedelta(seconds=1)
    grid.add_column("attempt", justify="right", no_wrap=True)
    grid.add_column("delay", no_wrap=True)
    grid.add_column("falls at (UTC)", no_wrap=True)
    scale = f"now{'·' * (BAR_CHARS - len('now') - len(rough(span)))}{rough(span)}"
    grid.add_column(scale, no_wrap=True)
    for row in attempts:
        if row["cut"]:
            grid.add_row(str(row["attempt"]), "", "", "[red]never: past the deadline[/]")
            continue
        grid.add_row(
            str(row["attempt"]),
            _band([rough(each) for each in row["delay"]]),
            _band([_minute(moment, now) for moment in row["at"]]),
            _bar(row["after"], span) + (" [yellow]or never: the deadline[/]" if row["may_be_cut"] else ""),
        )
    return grid


def _minute(moment: datetime, now: datetime) -> str:
    """Return a time of day; with seconds while they matter, with the day when it is another."""
    if moment - now < timedelta(minutes=10):
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%H:%M" if moment.date() == now.date() else "%a %H:%M")


def _band(ends: list[str]) -> str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _bar(after: tuple[timedelta, timedelta], span: timedelta) -> str:
    first, last = (min(BAR_CHARS - 1, int(each / span * (BAR_CHARS - 1))) for each in after)
    return f"[dim]{'·' * first}[/][cyan]{'█' * (last - first + 1)}[/][dim]{'·' * (BAR_CHARS - 1 - last)}[/]"


def _object(chosen: Policy, entry: str, attempts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "policy": entry,
        "enabled": chosen.enabled,
        "max_attempts": chosen.max_attempts,
        "backoff": chosen.backoff.value,
        "base_delay_s": chosen.base_delay.total_seconds(),
        "multiplier": chosen.multiplier,
        "max_delay_s": chosen.max_delay.total_seconds(),
        "jitter": chosen.jitter.value,
        "deadline_s": chosen.deadline.total_seconds(),
        "attempts": [
            {
                "attempt": row["attempt"],
                "delay_s": [each.total_seconds() for each in row["delay"]],
                "after_s": [each.total_seconds() for each in row["after"]],
                "at": [iso(each) for each in row["at"]],
                "past_deadline": row["cut"],
                "may_pass_deadline": row["may_be_cut"],
            }
            for row in attempts
        ],
    }
