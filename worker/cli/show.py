"""`show`: the story of one failure, with links to its runs."""

from __future__ import annotations

import asyncio
import json
import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import click

from config.settings import Settings
from worker.cli import paused
from worker.cli.errors import NO, CommandError
from worker.cli.output import console, echo_json, iso, name
from worker.cli.session import settings, with_ledger
from worker.cli.story import tell
from worker.cli.workflows import Rules, Standing, as_object, lineage_lines, stand
from worker.domain.executions import Execution
from worker.domain.lineage import Lineage, State
from worker.domain.text import clean_text
from worker.ledger import Ledger, records
from worker.ledger.gate import Halt
from worker.ledger.reports import Reports, StoredEvent
from worker.ledger.workflow_reports import Place, WorkflowReports

LINK_TIMEOUT = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class Told:
    """What the ledger tells of a lineage.

    Attributes:
        workflow: how its workflow stands, and its place among those that wait; None unless it is scheduled.
        halt: a pause of everything; None when there is none.
    """

    lineage: Lineage
    events: list[StoredEvent]
    now: datetime
    workflow: tuple[Standing, Place] | None
    halt: Halt | None = None


@click.command()
@click.argument("uuid")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the lineage's record, its events and what it waits for now.",
)
@click.option("--links/--no-links", default=True, help="Ask Kinetic for the runs' videos and logs.")
def show(uuid: str, as_json: bool, links: bool) -> None:
    """Tell what happened to a failed execution, from the first failure to the verdict.

    UUID may be the failed execution or any clone of it. The links to videos and logs are fetched from
    Kinetic now; they are never stored.

    \b
    Example: kinetic-retry show 5f0c2b6e-…
    """
    config = settings()

    rules = Rules.of(config)
    told = with_ledger(lambda ledger: _read(ledger, uuid, rules), config)
    if told is None:
        shown = clean_text(uuid, 200)
        raise CommandError(
            f"no lineage has the execution {shown}: it did not fail while the worker watched,\n"
            f"or before its first start. To watch it by uuid: kinetic-retry track {shlex.quote(shown)}",
            NO,
        )
    if as_json:
        record = json.loads(records.dump(told.lineage, ""))
        now = {"now": _now(told), "paused": paused.halt_object(told.halt)}
        echo_json({"root": told.lineage.root, **record, **now, "events": _objects(told.events)})
        return
    lines = tell(told.lineage, told.events, told.now)
    if told.halt and told.lineage.state is State.SCHEDULED:
        lines.append(f"    now: {paused.sentence(told.halt, told.now)}")
    if told.workflow:
        lines += lineage_lines(told.lineage, *told.workflow, rules.limits)
    if links:
        lines += asyncio.run(_links(config, told.lineage))
    screen = console()
    for line in lines:
        screen.print(line)


async def _read(ledger: Ledger, uuid: str, rules: Rules) -> Told | None:
    reports = Reports(ledger)
    summary = await reports.summary()
    now = summary.now
    lineage = await reports.find(uuid)
    if lineage is None:
        return None
    workflow = None
    if lineage.state is State.SCHEDULED:
        report, place = await WorkflowReports(ledger).workflow_of(lineage, rules.limits.window)
        workflow = stand([report], rules, now, lineage)[0], place
    return Told(lineage, await reports.story(lineage), now, workflow, summary.gate.halt)


async def _links(config: Settings, lineage: Lineage) -> list[str]:
    if not config.kinetic.base_url:
        return ["[dim]set KINETIC_BASE_URL and KINETIC_API_KEY to see the links to videos and logs[/]"]
    from dataclasses import replace
    from datetime import UTC

    from worker.kinetic import KineticClient, KineticError
    from worker.runtime import endpoint, list_contract

    quick = replace(endpoint(config), timeout=LINK_TIMEOUT, connect_timeout=LINK_TIMEOUT)
    client = KineticClient(quick, list_contract(config), now=lambda: datetime.now(UTC))
    try:
        found = await asyncio.gather(*map(client.get, lineage.members), return_exceptions=True)
    finally:
        await client.aclose()
    lines = []
    for uuid, run in zip(lineage.members, found, strict=True):
        if isinstance(run, Execution):
            shown = [
                f"{what} {name(url, 2000)}"
                for what, url in (("video", run.video_url), ("logs", run.logs_url))
                if url
            ]
            lines.append(
                f"  [dim]{name(uuid, 200)}: {run.status.value}{'; ' + '; '.join(shown) if shown else ''}[/]"
            )
        elif isinstance(run, KineticError):
            lines.append(f"  [dim]{name(uuid, 200)}: no links now ({name(str(run), 200)})[/]")
        elif isinstance(run, BaseException):
            raise run
    return lines


def _now(told: Told) -> dict[str, Any] | None:
    """Return what a scheduled lineage's workflow says now; None for every other."""
    if told.workflow is None:
        return None
    standing, place = told.workflow
    return {**as_object(standing), "waiting_before": place.before}


def _objects(events: list[StoredEvent]) -> list[dict[str, Any]]:
    return [{"at": iso(event.at), "event": event.name, **event.facts} for event in events]
