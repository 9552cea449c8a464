"""`status`: the ledger at a glance."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import click

from worker.cli import paused
from worker.cli.output import ago, clock, console, duration_option, echo_json, iso, name, rough
from worker.cli.session import settings, with_ledger
from worker.cli.workflows import Rules, Standing, stand, status_lines, usage_object
from worker.cli.workflows import as_object as workflow_object
from worker.domain.budget import Usage
from worker.domain.lineage import State
from worker.ledger import Ledger
from worker.ledger.gate import Closed
from worker.ledger.reports import Reports, Summary
from worker.ledger.workflow_reports import WorkflowReports, notable

COLOURS = {
    State.SCHEDULED: "cyan",
    State.SUBMITTING: "blue",
    State.RUNNING: "blue",
    State.UNRESOLVED: "yellow",
    State.HELD: "yellow",
    State.RECOVERED: "green",
    State.EXHAUSTED: "red",
    State.REJECTED: "red",
    State.CANCELLED: "dim",
}
MEANINGS = {
    State.SCHEDULED: "the next retry is due at a time",
    State.SUBMITTING: "a retry call is under way",
    State.RUNNING: "the clone is watched",
    State.UNRESOLVED: "a call whose outcome is being found out",
    State.HELD: "a person decides",
    State.RECOVERED: "a run completed",
    State.EXHAUSTED: "the policy allows no further attempt",
    State.REJECTED: "more attempts would change nothing",
    State.CANCELLED: "ended by a person",
}


STANDSTILL_AFTER, UNREAD_AFTER = timedelta(seconds=20), timedelta(minutes=10)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print an object: states, workflows, budget, …")
@click.option(
    "--watch",
    "every",
    is_flag=False,
    flag_value="2s",
    callback=duration_option,
    metavar="[DURATION]",
    help="Show it anew every so often (2s), until Ctrl-C.",
)
def status(as_json: bool, every: timedelta | None) -> None:
    """Show the ledger at a glance: how many lineages are in each state, and whether work goes on.

    \b
    Examples:
      kinetic-retry status
      kinetic-retry status --watch 5s
      kinetic-retry status --json | jq .states.exhausted
    """
    config = settings()
    rules = Rules.of(config)

    async def read(ledger: Ledger) -> tuple[Summary, list[Standing], Usage]:
        summary = await Reports(ledger).summary()
        workflows = WorkflowReports(ledger)
        reports, usage = await workflows.look(notable(summary.breakers), rules.limits.window)
        return summary, stand(reports, rules, summary.now), usage

    while True:
        summary, standings, usage = with_ledger(read, config)
        if as_json:
            workflows = [workflow_object(each) for each in standings]
            budget = usage_object(usage, rules.limits)
            echo_json(as_object(summary) | {"workflows": workflows, "budget": budget})
        else:
            screen = console()
            if every:
                screen.clear()
            for line in paused.lines(summary.gate.halt, standings, summary.now):
                screen.print(line)
            screen.print(table(summary))
            for line in [*status_lines(standings, usage, rules, summary.now), *lines(summary)]:
                screen.print(line)
        if not every:
            return
        time.sleep(every.total_seconds())


def as_object(summary: Summary) -> dict[str, Any]:
    """Return the summary as `--json` prints it; every state is always there."""
    gate = summary.gate
    return {
        "now": iso(summary.now),
        "paused": paused.halt_object(gate.halt),
        "paused_workflows": paused.workflow_objects(summary.breakers, summary.now),
        "states": {state.value: count for state, count in summary.states.items()},
        "counters": summary.counters,
        "next_due": iso(_next_due(summary)),
        "ticks": {
            job: {
                "finished_at": iso(tick.finished_at),
                "age_s": round((summary.now - tick.finished_at).total_seconds(), 3),
                "duration_s": tick.duration.total_seconds(),
                "did": tick.did,
            }
            for job, tick in summary.ticks.items()
        },
        "suspended": gate.closed is Closed.SUSPENDED,
        "suspended_reason": gate.reason if gate.closed is Closed.SUSPENDED else None,
        "suspended_since": iso(gate.since) if gate.closed is Closed.SUSPENDED else None,
        "down": gate.closed is Closed.DOWN,
        "down_reason": gate.reason if gate.closed is Closed.DOWN else None,
        "down_since": iso(gate.since) if gate.closed is Closed.DOWN else None,
        "opening_since": iso(gate.opening_since),
        "paused_until": iso(gate.paused_until),
        "pause_reason": gate.pause_reason or None,
        "started_at": iso(summary.started_at),
        "tracked": summary.tracked,
        "waiting": summary.waiting,
        "alive_at": iso(summary.alive_at),
    }


def _next_due(summary: Summary) -> datetime | None:
    """Return when the next retry is due; None while all wait: the index has no due times of those."""
    return summary.next_due if summary.states[State.SCHEDULED] > summary.waiting else None


def table(summary: Summary) -> Any:
    """Return the table of states."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("state")
    grid.add_column("lineages", justify="right")
    grid.add_column("meaning", style="dim")
    for state, count in summary.states.items():
        colour = COLOURS[state] if count else "dim"
        grid.add_row(f"[{colour}]{state.value}[/]", f"[{colour}]{count}[/]", MEANINGS[state])
    return grid


def _standstill(summary: Summary) -> list[str]:
    """Return what nobody does although it should be done."""
    said, now, listed = [], summary.now, summary.ticks.get("discover")
    if summary.alive_at and now - summary.alive_at > STANDSTILL_AFTER:
        when = clock(summary.alive_at, now)
        said.append(f"[bold red]no worker is working[/] since {when}: see that worker and beat run")
    elif listed and not summary.gate.closed and now - listed.finished_at > UNREAD_AFTER:
        said.append(
            f"[bold red]the list was not read[/] since {clock(listed.finished_at, now)}: new failures are "
            "not noticed. Look for listing_failed in the log; kinetic-retry check"
        )
    return said


def lines(summary: Summary) -> list[str]:
    """Return what the table cannot say."""
    now, gate, next_due = summary.now, summary.gate, _next_due(summary)
    said = _standstill(summary)
    since = f" since {clock(gate.since, now)}" if gate.since else ""
    if gate.closed is Closed.SUSPENDED:
        said.append(
            f"[bold red]suspended[/]{since}: {name(gate.reason)}. Check KINETIC_API_KEY: kinetic-retry check"
        )
    if gate.closed is Closed.DOWN:
        said.append(f"[bold red]API down[/]{since}: {name(gate.reason)}. It is probed; nothing else is sent")
    if gate.opening_since:
        said.append(f"[yellow]opening[/] by steps since {clock(gate.opening_since, now)}")
    if gate.paused_until:
        said.append(f"[yellow]paused[/] until {clock(gate.paused_until, now)}: {name(gate.pause_reason)}")
    due = f"{clock(next_due, now)} ({ago(next_due, now)})" if next_due else "nothing"
    said.append(f"next due   {due}")
    if summary.waiting:
        said.append(f"waiting    {summary.waiting} of those scheduled, for their workflow or a limit")
    if summary.started_at:
        said.append(f"started    {clock(summary.started_at, now)}; older failures are left alone")
    else:
        said.append("started    never: no worker has reached this ledger yet")
    if summary.tracked:
        said.append(f"tracked    {summary.tracked} executions by uuid")
    for job, tick in summary.ticks.items():
        did = ", ".join(f"{what.replace('_', ' ')} {count}" for what, count in tick.did.items() if count)
        took = rough(tick.duration)
        said.append(f"{job:<10} {ago(tick.finished_at, now)}, took {took}{': ' + did if did else ''}")
    return said
