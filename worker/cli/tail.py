"""`tail`: what happens, step by step, as it happens or from some time on."""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

import click

from worker.cli.filters import MOMENT, at, complete_workflows
from worker.cli.happenings import as_line, as_words
from worker.cli.output import console
from worker.cli.session import settings, with_ledger
from worker.ledger import Ledger, LedgerUnavailable
from worker.ledger.reports import Reports
from worker.ledger.stream import EventStream, StoredEvent, place_before

WITHOUT_FOLLOWING = timedelta(hours=1)
"""How far back is told where nothing is waited for and nobody says how far."""
PAUSE_S = 0.5
"""Between two tries while Redis is away."""


class ReaderGoneError(Exception):
    """Whoever read what is printed has gone: nothing more is worth waiting for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are wanted: those for which everything that is said holds.

    Attributes:
        names: any of them, with `*` and `?`; empty = all.
        workflow: a uuid, or a name with `*` and `?`.
        uuid: a root, or any execution that the event is about.
        root: of the lineage that `uuid` belongs to, where it has one.
        people: what persons did.
    """

    names: tuple[str, ...] = ()
    workflow: str = ""
    uuid: str = ""
    root: str = ""
    people: bool = False

    @property
    def holding(self) -> str:
        """What the stored facts of every wanted event hold, as text: the server leaves out the others."""
        return '"by":' if self.people else ""

    def takes(self, event: StoredEvent) -> bool:
        """Whether an event is wanted."""
        facts = event.facts
        if self.names and not any(fnmatchcase(event.name, each) for each in self.names):
            return False
        about = {event.root, *map(str, facts.values())} - {""}
        if self.uuid and about.isdisjoint({self.uuid, self.root}):
            return False
        if self.people and not facts.get("by"):
            return False
        if not self.workflow:
            return True
        name, folded = str(facts.get("workflow_name", "")).casefold(), self.workflow.casefold()
        return facts.get("workflow_uuid") == self.workflow or fnmatchcase(name, folded)


@click.command()
@click.argument("uuid", required=False, default="")
@click.option(
    "--root", "root", metavar="UUID", default="", help="The same as UUID: only one failure and its clones."
)
@click.option(
    "--event", "names", multiple=True, metavar="NAME", help="Only this event, with * and ?. May be repeated."
)
@click.option("--workflow", metavar="NAME|UUID", default="", shell_complete=complete_workflows,
              help="Only this workflow: its uuid, or its name with * and ?.")  # fmt: skip
@click.option(
    "--people", is_flag=True, help="Only what persons did: decisions, pauses, redrives, forced breakers."
)
@click.option(
    "--since", type=MOMENT, metavar="WHEN", help="Begin there: 1h (ago), 2026-03-01T12:00Z. Default: now."
)
@click.option(
    "--follow/--no-follow", default=True, help="Wait for more, or end with what there is (--since 1h)."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object a line, for pipes.")
def tail(
    uuid: str, root: str, names: tuple[str, ...], workflow: str, *, people: bool,
    since: datetime | timedelta | None, follow: bool, as_json: bool,
) -> None:  # fmt: skip
    """Follow what happens: every step of every failure, and what persons did. Times are UTC.

    A restart of Redis interrupts it and loses nothing; Ctrl-C ends it. docs/events.md lists the events.

    \b
    Examples:
      kinetic-retry tail --workflow 'Eligibility*' --event 'retries_*' --event retry_rejected
      kinetic-retry tail --people --since 24h --no-follow
      kinetic-retry tail --json | jq -r 'select(.event == "retries_exhausted").root'
    """
    if uuid and root:
        raise click.UsageError("UUID and --root say the same: give one of them")
    config = settings()

    async def work(ledger: Ledger) -> None:
        wanted = Wanted(names, workflow, uuid or root, await _root_of(ledger, uuid or root), people)
        now = await Reports(ledger).now()
        begins = at(since if since is not None or follow else WITHOUT_FOLLOWING, now)
        screen = console()
        async with aclosing(_events(ledger, wanted, begins, follow=follow)) as events:
            async for event in events:
                if as_json:
                    click.echo(as_line(event))
                else:
                    screen.print(as_words(event, now))

    try:
        with_ledger(work, config)
    except ReaderGoneError:
        return


async def _root_of(ledger: Ledger, uuid: str) -> str:
    return (await ledger.owners([uuid])).get(uuid, "") if uuid else ""


async def _events(
    ledger: Ledger, wanted: Wanted, begins: datetime | None, *, follow: bool
) -> AsyncGenerator[StoredEvent, None]:
    """Yield what is wanted, in order: what there is, and then what comes."""
    stream = EventStream(ledger)
    place = place_before(begins) if begins else await stream.newest()
    while True:
        entries = await stream.read(place, root=wanted.root, holding=wanted.holding)
        place = entries.last
        for event in filter(wanted.takes, entries.events):
            yield event
        if not entries.scanned:
            break
    away = False
    while follow:
        try:
            entries = await stream.wait(place)
        except LedgerUnavailable as error:
            if not away:
                click.echo(f"{error}; waiting for it to come back", err=True)
            away = True
            await asyncio.sleep(PAUSE_S)
        else:
            if away:
                click.echo("Redis is back", err=True)
            away, place = False, entries.last
            for event in filter(wanted.takes, entries.events):
                yield event
        _end_where_nobody_reads()


def _end_where_nobody_reads() -> None:
    """Notice that the other end of a pipe was closed, which else only the next line would."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        gone = any(event & (select.POLLERR | select.POLLNVAL) for _, event in watched.poll(0))
    except (OSError, ValueError):  # standard output is no file at all
        return
    if gone:
        raise ReaderGoneError
