"""`pause` and `resume`: a person lets no retry call leave, for everything or for one workflow."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from worker.cli import pausing
from worker.cli.deciding import MAX_SAID_CHARS, decider, deciding
from worker.cli.ending import ending, with_ending
from worker.cli.output import console, echo_json, iso, name, rough
from worker.cli.paused import ends
from worker.cli.pausing import Said
from worker.cli.session import settings, with_ledger
from worker.cli.workflows import title
from worker.ledger import Ledger


@click.command()
@click.argument("workflow", required=False)
@deciding
@with_ending
def pause(
    *,
    workflow: str | None,
    reason: str,
    by: str | None,
    as_json: bool,
    lasts: timedelta | None,
    until: datetime | time | None,
    zone: ZoneInfo,
) -> None:
    """Let no retry call leave: of everything, or of one WORKFLOW (its uuid, or its name with * and ?).

    Failures are still found and clones watched; what is due waits and spends no attempt, but a lineage still
    ends at its deadline. A call that has left is not taken back. It ends with `resume`, or by itself where an
    end is given; times are UTC unless --zone or an offset says otherwise.

    \b
    Examples:
      kinetic-retry pause --for 2h --reason 'Kinetic is upgraded'
      kinetic-retry pause 'Claim status*' --until '06:00' --zone Europe/Berlin --reason 'payer site closed'
    """
    config = settings()
    person, end = decider(reason, by, config), ending(lasts, until, zone)

    async def work(ledger: Ledger) -> Said:
        if workflow is None:
            return await pausing.halt(ledger, person, end)
        return await pausing.pause_workflow(ledger, workflow, person, end)

    said = with_ledger(work, config)
    if as_json:
        echo_json(_as_object(said, paused=True))
        return
    for line in _paused_lines(said):
        console().print(line)


@click.command()
@click.argument("workflow", required=False)
@deciding
def resume(*, workflow: str | None, reason: str, by: str | None, as_json: bool) -> None:
    """Let retry calls leave again: of everything, or of one WORKFLOW that is paused.

    A workflow that is paused by itself stays so when everything resumes.

    \b
    Examples:
      kinetic-retry resume --reason 'the upgrade is done'
      kinetic-retry resume 'Claim status*' --reason 'the payer site is back'
    """
    config = settings()
    person = decider(reason, by, config)

    async def work(ledger: Ledger) -> Said:
        if workflow is None:
            return await pausing.unhalt(ledger, person)
        return await pausing.resume_workflow(ledger, workflow, person)

    said = with_ledger(work, config)
    if as_json:
        echo_json(_as_object(said, paused=False))
        return
    for line in _resumed_lines(said):
        console().print(line)


def _paused_lines(said: Said) -> list[str]:
    what = f"[bold]{title(said.workflow)}[/]" if said.workflow else "[bold]everything[/]"
    end = ends(said.until, said.now)
    lines = [f"{what} is paused: no retry call leaves; it goes on {end} [dim]({_on_record(said)})[/]"]
    if said.waiting:
        who = "for it" if said.workflow else "now"
        lines.append(f"  {_lineages(said.waiting)} {'wait' if said.workflow else 'due'} {who}")
    if said.under_way:
        lines.append(f"  {said.under_way} under way already: what has left is followed to its end")
    return lines


def _resumed_lines(said: Said) -> list[str]:
    what = f"[bold]{title(said.workflow)}[/]" if said.workflow else "[bold]everything[/]"
    lasted = rough(said.now - said.since)
    lines = [f"{what} goes on after {lasted} [dim]({_on_record(said)})[/]"]
    verb = "waited for it and may go" if said.workflow else "due and may go"
    if said.waiting:
        lines.append(f"  {_lineages(said.waiting)} {verb}, as breakers, budget and pace allow")
    if said.still_paused:
        lines.append(f"  [yellow]still paused by themselves: {name(', '.join(said.still_paused), 400)}[/]")
    return lines


def _lineages(count: int) -> str:
    return f"{count} lineage{'' if count == 1 else 's'}"


def _on_record(said: Said) -> str:
    return name(str(said.person), MAX_SAID_CHARS)


def _as_object(said: Said, *, paused: bool) -> dict[str, Any]:
    workflow = said.workflow
    return {
        "paused": paused,
        "workflow": workflow.key if workflow else None,
        "workflow_name": (workflow.name or None) if workflow else None,
        "by": said.person.by,
        "why": said.person.why,
        "since": iso(said.since),
        "until": iso(said.until),
        "paused_for_s": None if paused else round((said.now - said.since).total_seconds(), 3),
        "waiting": said.waiting,
        "still_paused": list(said.still_paused),
    }
