"""`list` and `dead`: lineages by what they are, page by page, for people and for pipes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import click

from worker.cli.exports import as_json
from worker.cli.filters import Chosen, filter_options
from worker.cli.output import ago, console, name
from worker.cli.session import settings, with_ledger
from worker.cli.status import COLOURS
from worker.cli.workflows import WAITING_FOR
from worker.domain.lineage import Lineage, State
from worker.domain.policy import PolicyBook
from worker.ledger import Ledger
from worker.ledger.listing import READ_AT_ONCE, By, Cursor, Filter, Listing, Page, UngroupedError
from worker.ledger.reports import Reports

Command = TypeVar("Command", bound=Callable[..., Any])
MOST_LOOKED_AT = 20_000
"""Records read at most where lineages cannot be found by their groups."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be listed, and how it is printed.

    Attributes:
        limit: None = all of them.
        form: `table`, `json`, `jsonl` or `uuids`.
    """

    chosen: Chosen
    by: By
    after: Cursor | None
    limit: int | None
    form: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A part of what is listed.

    Attributes:
        lineages: their records; not read where only uuids are printed.
        next: where the next page begins; None at the end.
    """

    roots: list[str]
    lineages: list[Lineage]
    next: Cursor | None


class Place(click.ParamType[Cursor]):
    """Where a page ended."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Cursor:
        """Return the cursor that the word means."""
        try:
            return value if isinstance(value, Cursor) else Cursor.parse(str(value))
        except ValueError as error:
            self.fail(f"{error}: take what the page before ended with", param, ctx)


def _listing_options(command: Command) -> Command:
    options = [
        click.option(
            "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many."
        ),
        click.option(
            "--all", "everything", is_flag=True, help="All of them; with --uuids, --jsonl or --json."
        ),
        click.option(
            "--after", type=Place(), metavar="PLACE", help="The next page: what the one before ended with."
        ),
        click.option("--uuids", is_flag=True, help="Print uuids alone, one of each lineage, a line each."),
        click.option("--jsonl", is_flag=True, help="Print a record a line."),
        click.option("--json", "as_json", is_flag=True, help="Print an array of records."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _sorting(default: By) -> Callable[[Command], Command]:
    return click.option(
        "--sort", "by", type=click.Choice([by.value for by in By]), default=default.value, show_default=True,
        help="By time in the state (newest, oldest) or, newest first in each, by state, workflow, reason or "
        "attempts (most first).",
    )  # fmt: skip


@click.command("list")
@filter_options()
@_sorting(By.STATE)
@_listing_options
def list_lineages(chosen: Chosen, **how: Any) -> None:
    """List lineages: what failed, where it stands and why.

    Times are those since when a lineage is in its state. `list --uuids` feeds other commands, line by line.

    \b
    Examples:
      kinetic-retry list --state exhausted --workflow 'Eligibility*' --since 24h
      kinetic-retry list --sort attempts --attempts 3- --limit 500 --json
      kinetic-retry list --state held --reason log_rule --all --uuids | kinetic-retry release --reason ok -
    """
    _list(_wanted(chosen, **how))


@click.command("dead")
@filter_options(states=(State.EXHAUSTED,))
@_sorting(By.NEWEST)
@_listing_options
def dead(chosen: Chosen, **how: Any) -> None:
    """List the dead letters: lineages whose attempts or deadline are used up.

    Times are those since when they are. To retry them: kinetic-retry redrive, or retry for a single one.

    \b
    Examples:
      kinetic-retry dead --since 24h --sort workflow
      kinetic-retry dead --workflow 'Eligibility*' --reason deterministic --json
      kinetic-retry dead --all --uuids >dead.txt
    """
    _list(_wanted(chosen, **how))


def _wanted(
    chosen: Chosen, *, by: str, limit: int, everything: bool, after: Cursor | None, **forms: bool
) -> Wanted:
    asked = [form for form in ("uuids", "jsonl", "as_json") if forms[form]]
    if len(asked) > 1:
        raise click.UsageError("--uuids, --jsonl and --json exclude each other")
    if everything and not asked:
        raise click.UsageError("--all takes --uuids, --jsonl or --json: a table is for people")
    if after and after.by != by:
        raise click.UsageError(f"--after is a place in the order by {after.by}: add --sort {after.by}")
    form = asked[0].removeprefix("as_") if asked else "table"
    return Wanted(chosen, By(by), after, None if everything else limit, form)


def _list(wanted: Wanted) -> None:
    config = settings()

    async def work(ledger: Ledger) -> None:
        now = await Reports(ledger).now()
        batches = _batches(ledger, wanted, wanted.chosen.at(now))
        if wanted.form == "table":
            await _print_table(batches, wanted, config.policies, now)
        else:
            await _print_lines(batches, wanted)

    with_ledger(work, config)


async def _batches(ledger: Ledger, wanted: Wanted, chosen: Filter) -> AsyncIterator[Batch]:
    """Yield what is to be listed, in batches of bounded size."""
    listing, read = Listing(ledger), wanted.form != "uuids"
    try:
        async for page in _pages(listing, wanted, chosen):
            yield Batch(page.roots, await listing.read(page) if read else [], page.next)
    except UngroupedError as error:
        click.echo(
            f"{error}. Until then at most {MOST_LOOKED_AT} records are looked through, "
            "the newest of each state first, and there is no sorting.",
            err=True,
        )
        yield await _looked_through(ledger, chosen, wanted.limit)


async def _pages(listing: Listing, wanted: Wanted, chosen: Filter) -> AsyncIterator[Page]:
    """Yield what is found, in pages of bounded size; the last one says where the next would begin."""
    if wanted.limit is None:
        async for page in listing.walk(chosen, by=wanted.by, after=wanted.after):
            yield replace(page, next=None)
        return
    after, left = wanted.after, wanted.limit
    while left > 0:
        page = await listing.find(chosen, by=wanted.by, after=after, limit=min(left, READ_AT_ONCE))
        yield page
        after, left = page.next, left - READ_AT_ONCE
        if after is None:
            return


async def _looked_through(ledger: Ledger, chosen: Filter, limit: int | None) -> Batch:
    """Return what matches among the records themselves, for a ledger that has no groups yet."""
    found: list[Lineage] = []
    looked_at = 0
    async for lineage in Reports(ledger).lineages(chosen.states or tuple(State)):
        looked_at += 1
        if chosen.matches(lineage):
            found.append(lineage)
        if len(found) == limit or looked_at == MOST_LOOKED_AT:
            break
    return Batch([each.root for each in found], found, None)


async def _print_lines(batches: AsyncIterator[Batch], wanted: Wanted) -> None:
    """Print as it is read: nothing is gathered, however much it is."""
    as_array, first, place = wanted.form == "json", True, None
    if as_array:
        click.echo("[", nl=False)
    async for batch in batches:
        lines = batch.roots if wanted.form == "uuids" else [as_json(each) for each in batch.lineages]
        if lines and as_array:
            click.echo(("\n" if first else ",\n") + ",\n".join(lines), nl=False)
        elif lines:
            click.echo("\n".join(lines))
        first, place = first and not lines, batch.next
    if as_array:
        click.echo("]" if first else "\n]")
    elif place:
        click.echo(f"there are more: --after {place}", err=True)


async def _print_table(
    batches: AsyncIterator[Batch], wanted: Wanted, policies: PolicyBook, now: datetime
) -> None:
    read = [batch async for batch in batches]  # a table has a limit
    found = [lineage for batch in read for lineage in batch.lineages]
    screen = console()
    if not found:
        screen.print("nothing to list")
        return
    screen.print(_table(found, policies, now))
    if place := read[-1].next:
        screen.print(f"[dim]the first {wanted.limit}; --limit for more, or the next page: --after {place}[/]")


def _table(found: list[Lineage], policies: PolicyBook, now: datetime) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("execution", "state", "workflow", "attempts", "since", "next, or why"):
        grid.add_column(
            title, no_wrap=title == "execution", justify="right" if title == "attempts" else "left"
        )
    for each in found:
        waits = each.reason in WAITING_FOR  # for its workflow: `status` says once how that stands
        due = f"due {ago(each.due_at, now)}" if each.state is State.SCHEDULED and each.due_at else ""
        reason = name(each.reason) + (f": {name(each.detail, 80)}" if each.detail and not waits else "")
        if each.signature and not each.state.is_final:
            reason += f"; failed at {each.signature.in_words}"
        colour = COLOURS[each.state]
        policy, _ = policies.for_workflow(each.workflow_uuid, each.workflow_name)
        grid.add_row(
            name(each.root, 200),
            f"[{colour}]{each.state.value}[/]",
            name(each.workflow_name or each.workflow_uuid, 40),
            f"{each.made}/{policy.max_attempts}",
            ago(each.since, now),
            f"waits: {reason}" if waits else "; ".join(part for part in (due, reason) if part),
        )
    return grid
