"""`pause` and `resume`: a person lets no retry call leave, for everything or for one workflow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from worker.cli import forcing
from worker.cli.deciding import MAX_SAID_CHARS, decider, deciding
from worker.cli.ending import Ending, ending, with_ending
from worker.cli.errors import NO, CommandError
from worker.cli.output import ago, clock, console, echo_json, iso, name, rough
from worker.cli.paused import ends, is_paused, paused_workflows
from worker.cli.person import Person
from worker.cli.session import settings, with_ledger
from worker.cli.workflows import title
from worker.domain.breaker import Breaker, Forced
from worker.domain.lineage import State
from worker.ledger import Ledger
from worker.ledger.gate import Halt
from worker.ledger.pauses import Pauses, facts_of
from worker.ledger.reports import Reports
from worker.ledger.workflow_reports import Named, WorkflowReports

WINDOW = timedelta(hours=1)
_NONE = Breaker()


@dataclass(frozen=True, slots=True)
class Said:
    """What came of it.

    Attributes:
        workflow: None = everything.
        since, until: of the pause.
        waiting: lineages that are due, or wait for the workflow.
        under_way: retry calls that had left before.
        still_paused: workflows that stay paused by themselves.
    """

    person: Person
    now: datetime
    workflow: Named | None
    since: datetime
    until: datetime | None
    waiting: int
    under_way: int = 0
    still_paused: tuple[str, ...] = ()


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
            return await _halt(ledger, person, end)
        return await _pause_workflow(ledger, workflow, person, end)

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
            return await _unhalt(ledger, person)
        return await _resume_workflow(ledger, workflow, person)

    said = with_ledger(work, config)
    if as_json:
        echo_json(_as_object(said, paused=False))
        return
    for line in _resumed_lines(said):
        console().print(line)


async def _halt(ledger: Ledger, person: Person, end: Ending) -> Said:
    summary = await Reports(ledger).summary()
    now, until = summary.now, end.after(summary.now)
    await Pauses(ledger).look()  # one that ran out is told of before another begins
    facts = {"by": person.by, "why": person.why, "until": iso(until) or ""}
    wanted = Halt(person.by, person.why, now, until)
    changed, before = await ledger.gate.halt(wanted, event="retries_paused", facts=facts)
    if not changed:
        raise CommandError(_already(before, now), NO)
    due = await Pauses(ledger).due()
    return Said(person, now, None, now, until, due, under_way=summary.states[State.SUBMITTING])


async def _unhalt(ledger: Ledger, person: Person) -> Said:
    summary = await Reports(ledger).summary()
    now, halt = summary.now, summary.gate.halt
    others = paused_workflows(summary.breakers, now)
    names = tuple(each.workflow_name or each.workflow_uuid or key for key, each in others.items())
    if halt is None:
        await Pauses(ledger).look()
        raise CommandError(_nothing_paused(names), NO)
    facts = {"by": person.by, "why": person.why, **facts_of(halt)}
    changed, before = await ledger.gate.halt(None, event="retries_resumed", facts=facts)
    if not changed or before is None:
        raise CommandError(f"somebody else was faster: {_nothing_paused(names)}", NO)
    due = await Pauses(ledger).due()
    return Said(person, now, None, before.since, before.until, due, still_paused=names)


async def _pause_workflow(ledger: Ledger, wanted: str, person: Person, end: Ending) -> Said:
    now, workflow, before = await _find(ledger, wanted)
    if is_paused(before, now):
        raise CommandError(_workflow_already(workflow, before, now), NO)
    after, _ = await forcing.force(ledger, workflow, Forced.OPEN, person, until=end.after(now), seen=before)
    waiting, flying = await _waiting(ledger, workflow)
    return Said(person, now, workflow, now, after.forced_until, waiting, under_way=flying)


async def _resume_workflow(ledger: Ledger, wanted: str, person: Person) -> Said:
    now, workflow, before = await _find(ledger, wanted)
    if not is_paused(before, now):
        closed = f": its breaker is forced closed ({before.detail})" if before.forced is Forced.CLOSED else ""
        raise CommandError(f"{_plain(workflow)} is not paused{closed}; see kinetic-retry status", NO)
    await forcing.force(ledger, workflow, None, person, seen=before)
    waiting, _ = await _waiting(ledger, workflow)
    return Said(person, now, workflow, before.since or now, before.forced_until, waiting)


async def _find(ledger: Ledger, wanted: str) -> tuple[datetime, Named, Breaker]:
    summary = await Reports(ledger).summary()
    workflow = forcing.find(await WorkflowReports(ledger).names(), wanted)
    return summary.now, workflow, summary.breakers.get(workflow.key, _NONE)


async def _waiting(ledger: Ledger, workflow: Named) -> tuple[int, int]:
    """Return how many lineages wait for a workflow, and how many of its clones are under way."""
    reports, _ = await WorkflowReports(ledger).look({workflow.key: _NONE}, WINDOW)
    ours = [each for each in reports if each.workflow.key == workflow.key]
    return sum(each.waiting for each in ours), sum(each.known.usage.in_flight for each in ours)


def _already(halt: Halt | None, now: datetime) -> str:
    if halt is None:
        return "everything is paused already, by somebody who was faster; see kinetic-retry status"
    since = f"since {clock(halt.since, now)} ({ago(halt.since, now)})"
    return (
        f"everything is paused already, {since}, by {halt.by}: {halt.why}\n"
        f"It goes on {ends(halt.until, now)}; nothing is changed. To end it: kinetic-retry resume --reason …"
    )


def _workflow_already(workflow: Named, breaker: Breaker, now: datetime) -> str:
    since = f", since {clock(breaker.since, now)}" if breaker.since else ""
    return (
        f"{_plain(workflow)} is paused already{since}, by {breaker.detail}\n"
        f"It goes on {ends(breaker.forced_until, now)}; nothing is changed. To end it: "
        f"kinetic-retry resume {workflow.key} --reason …"
    )


def _nothing_paused(names: tuple[str, ...]) -> str:
    if not names:
        return "nothing is paused; see kinetic-retry status"
    return (
        f"only single workflows are paused ({', '.join(names[:5])}): kinetic-retry resume WORKFLOW --reason …"
    )


def _plain(workflow: Named) -> str:
    return workflow.name or workflow.uuid or workflow.key


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
