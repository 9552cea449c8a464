"""`list` and `track`: lineages in a table, and executions to watch by uuid."""

from __future__ import annotations

import json
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import click

from worker.cli.errors import WRONG, CommandError
from worker.cli.output import ago, console, echo_json, name
from worker.cli.session import settings, with_ledger
from worker.cli.status import COLOURS
from worker.cli.workflows import WAITING_FOR
from worker.domain.lineage import Lineage, State
from worker.domain.policy import PolicyBook
from worker.domain.text import clean_text
from worker.ledger import Ledger, records
from worker.ledger.reports import Reports


@click.command("list")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([s.value for s in State]), help="Only these states."
)
@click.option(
    "--workflow", metavar="NAME|UUID", help="Only this workflow: its uuid, or its name with * and ?."
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print an array of records.")
def list_lineages(states: tuple[str, ...], workflow: str | None, limit: int, as_json: bool) -> None:
    """List lineages, the newest of each state first.

    \b
    Examples:
      kinetic-retry list --state exhausted --state held
      kinetic-retry list --workflow 'Eligibility*' --limit 500 --json
    """
    config = settings()
    wanted = tuple(State(state) for state in states) or tuple(State)

    async def read(ledger: Ledger) -> tuple[list[Lineage], datetime]:
        reports, found = Reports(ledger), []
        now = (await reports.summary()).now
        async for lineage in reports.lineages(wanted):
            if workflow is None or _is_of(lineage, workflow):
                found.append(lineage)
            if len(found) == limit:
                break
        return found, now

    found, now = with_ledger(read, config)
    if as_json:
        echo_json([{"root": each.root, **json.loads(records.dump(each, ""))} for each in found])
        return
    screen = console()
    if not found:
        screen.print("nothing to list")
        return
    screen.print(_table(found, config.policies, now))
    if len(found) == limit:
        screen.print(f"[dim]the first {limit}; --limit for more[/]")


@click.command()
@click.argument("uuids", nargs=-1, required=True, metavar="UUID…")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def track(uuids: tuple[str, ...], as_json: bool) -> None:
    """Watch executions by uuid: one that fails is retried by policy, one that completes is let go.

    Needs only documented calls, so it works where there is no list (DISCOVERY_MODE=track). Someone named
    these, so they are retried whenever they failed.

    \b
    Example: kinetic-retry track 5f0c2b6e-… 77aa01b3-…
    """
    from worker.kinetic.wire import usable_uuid

    config = settings()
    unusable = [uuid for uuid in uuids if not usable_uuid(uuid)]
    if unusable:
        raise CommandError(
            f"cannot be an execution's uuid: {clean_text(unusable[0], 200)!r}; nothing is tracked", WRONG
        )
    new = with_ledger(lambda ledger: ledger.track(list(dict.fromkeys(uuids))), config)
    known = len(set(uuids)) - new
    if as_json:
        echo_json({"tracked": new, "known": known})
    else:
        click.echo(f"{new} under watch" + (f", {known} were already" if known else ""))


def _is_of(lineage: Lineage, workflow: str) -> bool:
    return lineage.workflow_uuid == workflow or fnmatchcase(
        lineage.workflow_name.casefold(), workflow.casefold()
    )


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
