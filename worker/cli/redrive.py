"""`redrive`: dead letters by the hundred, planned first, a few of them tried, then the rest at a rate."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import click

from worker.cli import redrive_view as view
from worker.cli import redriving
from worker.cli.deciding import decider, deciding
from worker.cli.filters import Chosen
from worker.cli.output import console, echo_json
from worker.cli.person import Person
from worker.cli.redrive_items import DONE, PENDING, UNDER_WAY, Entry, entries
from worker.cli.redrive_options import Command, Terms, choosing, command_for, refuse_options, terms
from worker.cli.redrive_plan import preview_lines, preview_object
from worker.cli.redrive_watch import follow
from worker.cli.redriving import Preview
from worker.cli.session import settings, with_ledger
from worker.domain.lineage import State
from worker.domain.redrive import Outcome
from worker.domain.redrive_plan import Plan
from worker.ledger import Ledger
from worker.ledger.redrive_records import Redrive
from worker.ledger.redrives import Redrives
from worker.ledger.reports import Reports

NO_WORKER_FOR = timedelta(seconds=30)


@click.group(invoke_without_command=True)
@click.pass_context
@choosing
@terms
def redrive(
    ctx: click.Context,
    *,
    chosen: Chosen,
    yes: bool,
    reason: str | None,
    by: str | None,
    watched: bool | None,
    as_json: bool,
    **how: Any,
) -> int:
    """Retry many dead letters once more: a few first, then the rest at a rate.

    Says what it would do, and does nothing, until --yes is given. The workers do it: no terminal has to stay
    open. It stops by itself when too many fail again; what was not released then stays as it was.

    \b
    Examples:
      kinetic-retry redrive --workflow 'Eligibility*' --since 24h
      kinetic-retry redrive --workflow 'Eligibility*' --since 24h --rate 30/m --yes --reason 'payer is back'
      kinetic-retry redrive watch
    """
    if ctx.invoked_subcommand:
        refuse_options(ctx)
        return 0
    if not ctx.params["states"]:
        chosen = replace(chosen, states=(State.EXHAUSTED,))
    how_to_go, config = Terms(**how), settings()
    if not yes:
        _show_plan(ctx, chosen, how_to_go, as_json=as_json)
        return 0
    if not reason:
        raise click.UsageError("--yes needs --reason: why, for colleagues", ctx)
    person = decider(reason, by, config)

    async def work(ledger: Ledger) -> tuple[Redrive, datetime, datetime | None]:
        now, worked_at = await _now(ledger)
        begun = await redriving.start(
            ledger, chosen.at(now), how_to_go.plan(view.in_words(chosen), person, now)
        )
        return begun, now, worked_at

    begun, now, worked_at = with_ledger(work, config)
    if as_json:
        echo_json(view.as_object(begun))
    else:
        for line in view.started(begun):
            console().print(line)
        _warn_of_silence(now, worked_at)
    if watched or (watched is None and sys.stdout.isatty() and not as_json):
        return follow(begun.plan.id, config, as_json=as_json)
    return 0


def _show_plan(ctx: click.Context, chosen: Chosen, how: Terms, *, as_json: bool) -> None:
    config = settings()

    async def work(ledger: Ledger) -> tuple[Preview, Plan, datetime | None]:
        now, worked_at = await _now(ledger)
        plan = how.plan(view.in_words(chosen), None, now)
        return await redriving.preview(ledger, chosen.at(now), plan), plan, worked_at

    found, plan, worked_at = with_ledger(work, config)
    command = command_for(ctx)
    if as_json:
        echo_json(preview_object(found, plan, command))
        return
    screen = console()
    for part in preview_lines(found, plan, command):
        screen.print(part)
    if found.total:
        _warn_of_silence(found.now, worked_at)


async def _now(ledger: Ledger) -> tuple[datetime, datetime | None]:
    """Return the time of the Redis server, and when a worker sent what is due last."""
    summary = await Reports(ledger).summary()
    tick = summary.ticks.get("submit")
    return summary.now, tick.finished_at if tick else None


def _warn_of_silence(now: datetime, worked_at: datetime | None) -> None:
    if worked_at is None or now - worked_at > NO_WORKER_FOR:
        since = f"since {worked_at:%H:%M:%S} UTC" if worked_at else "yet"
        click.echo(f"no worker has been at work {since}: nothing is released before one is", err=True)


@redrive.command("list", short_help="List the redrives on record.")
@click.option("--json", "as_json", is_flag=True, help="Print an array.")
def list_redrives(*, as_json: bool) -> None:
    """List the redrives on record, the newest first.

    \b
    Example: kinetic-retry redrive list
    """

    async def work(ledger: Ledger) -> list[Redrive]:
        redrives = Redrives(ledger)
        await _now(ledger)
        return await redrives.load(await redrives.ids())

    found = with_ledger(work)
    if as_json:
        echo_json([view.as_object(each) for each in found])
        return
    console().print(view.table(found) if found else "no redrive is on record")


@redrive.command(short_help="Show how a redrive goes, until it is over.")
@click.argument("redrive_id", metavar="[ID]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print an object a line, whenever something changed.")
def watch(*, redrive_id: str | None, as_json: bool) -> int:
    """Show how a redrive goes, until it is over: the newest unless an ID is given.

    Ctrl-C ends the looking only. The exit code is 0 when it finished, 1 when it stopped or was cancelled.

    \b
    Example: kinetic-retry redrive watch 4f2a9c
    """
    return follow(redrive_id, settings(), as_json=as_json)


@redrive.command(short_help="Show what became of the items of a redrive.")
@click.argument("redrive_id", metavar="[ID]", required=False)
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice([*(each.value for each in Outcome), UNDER_WAY, PENDING]),
    help="Only these. May be repeated.",
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print all of them, an object a line.")
def show(*, redrive_id: str | None, outcomes: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Show what became of each item: the newest redrive's unless an ID is given, the newest results first.

    \b
    Examples:
      kinetic-retry redrive show 4f2a9c --outcome failed
      kinetic-retry redrive show --json | jq -r 'select(.outcome == "failed").root'
    """

    async def work(ledger: Ledger) -> tuple[Redrive, list[Entry]]:
        one = await redriving.find(ledger, redrive_id)
        wanted, found = outcomes or (*DONE, UNDER_WAY, PENDING), list[Entry]()
        async for each in entries(ledger, one, wanted):
            if as_json:
                click.echo(json.dumps(each.as_object()))
                continue
            found.append(each)
            if len(found) == limit:
                break
        return one, found

    one, found = with_ledger(work)
    if as_json:
        return
    screen = console()
    for part in view.shown(one, found, limit):
        screen.print(part)


def _about(action: Command) -> Command:
    return click.argument("redrive_id", metavar="ID")(deciding(action))


@redrive.command(short_help="Release nothing more until it is resumed.")
@_about
def pause(*, redrive_id: str, reason: str, by: str | None, as_json: bool) -> None:
    """Release nothing more until someone resumes it; what is under way is followed to its end.

    \b
    Example: kinetic-retry redrive pause 4f2a9c --reason 'the payer is slow'
    """
    _say(redriving.pause, redrive_id, reason, by, as_json=as_json)


@redrive.command(short_help="Go on with a redrive that is paused, or stopped by itself.")
@_about
def resume(*, redrive_id: str, reason: str, by: str | None, as_json: bool) -> None:
    """Go on where it was when it was paused; with a new canary when it had stopped by itself.

    \b
    Example: kinetic-retry redrive resume 4f2a9c --reason 'mended'
    """
    _say(redriving.resume, redrive_id, reason, by, as_json=as_json)


@redrive.command(short_help="Release nothing more, ever.")
@_about
def cancel(*, redrive_id: str, reason: str, by: str | None, as_json: bool) -> None:
    """Release nothing more, ever: what was not released stays as it was.

    \b
    Example: kinetic-retry redrive cancel 4f2a9c --reason 'wrong filter'
    """
    _say(redriving.cancel, redrive_id, reason, by, as_json=as_json)


Action = Callable[[Ledger, str, Person], Awaitable[Redrive]]


def _say(action: Action, redrive_id: str, reason: str, by: str | None, *, as_json: bool) -> None:
    config = settings()
    person = decider(reason, by, config)

    async def work(ledger: Ledger) -> Redrive:
        await _now(ledger)
        return await action(ledger, redrive_id, person)

    one = with_ledger(work, config)
    if as_json:
        echo_json(view.as_object(one))
        return
    for line in view.said(one):
        console().print(line)
