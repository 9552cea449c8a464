"""Watching a redrive from any terminal: a progress bar, or a line a change in a pipe. Changes nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from worker.cli import redrive_view as view
from worker.cli import redriving
from worker.cli.errors import NO
from worker.cli.output import console
from worker.cli.session import with_ledger
from worker.domain.redrive import Status
from worker.ledger import Ledger
from worker.ledger.redrive_records import Redrive

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.settings import Settings

EVERY = timedelta(seconds=1)


def follow(redrive_id: str | None, config: Settings, *, as_json: bool) -> int:
    """Show how a redrive goes until it is over and nothing of it is under way; return the exit code."""
    if sys.stdout.isatty() and not as_json:
        one = _with_a_bar(redrive_id, config)
    else:
        one = with_ledger(lambda ledger: _until_over(ledger, redrive_id, _line(as_json=as_json)), config)
    return 0 if one.standing.status is Status.FINISHED else NO


def _with_a_bar(redrive_id: str | None, config: Settings) -> Redrive:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    screen, stands = console(), TextColumn("{task.fields[status]}")
    figures = TextColumn("{task.description}")
    try:
        with Progress(stands, BarColumn(), MofNCompleteColumn(), figures, console=screen) as bar:
            task = bar.add_task("", total=None, status="")

            def show(one: Redrive) -> None:
                bar.update(
                    task,
                    completed=one.tally.done,
                    total=one.plan.total,
                    description=view.figures(one),
                    status=view.status(one),
                )

            one = with_ledger(lambda ledger: _until_over(ledger, redrive_id, show), config)
    except KeyboardInterrupt:
        click.echo("it goes on without this terminal: kinetic-retry redrive watch shows it again", err=True)
        raise
    for line in view.said(one):
        screen.print(line)
    return one


def _line(*, as_json: bool) -> Callable[[Redrive], None]:
    """Return what prints a line whenever something changed."""
    said = ""

    def show(one: Redrive) -> None:
        nonlocal said
        line = json.dumps(view.as_object(one), default=str) if as_json else view.line(one)
        if line != said:
            click.echo(line)
            said = line

    return show


async def _until_over(ledger: Ledger, redrive_id: str | None, show: Callable[[Redrive], Any]) -> Redrive:
    one = await redriving.find(ledger, redrive_id)
    while True:
        show(one)
        if one.standing.status.is_over and not one.flying:
            return one
        await asyncio.sleep(EVERY.total_seconds())
        one = await redriving.find(ledger, one.plan.id)
