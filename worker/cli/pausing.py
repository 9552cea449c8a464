"""A person lets no retry call leave, or lets them leave again: what is put on record, and who was first.

Knows nothing of how it is asked for or shown (`pause`). Every refusal is a `CommandError` in words. The pause
of a workflow is its breaker forced open; that of everything is in the gate.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.cli import forcing
from worker.cli.ending import Ending
from worker.cli.errors import NO, CommandError
from worker.cli.output import ago, clock, iso
from worker.cli.paused import ends, is_paused, paused_workflows
from worker.cli.person import Person
from worker.domain.breaker import UNTOUCHED, Breaker, Forced
from worker.domain.lineage import State
from worker.ledger import Ledger
from worker.ledger.gate import Halt
from worker.ledger.pauses import Pauses, facts_of
from worker.ledger.reports import Reports
from worker.ledger.workflow_reports import Named, WorkflowReports

WINDOW = timedelta(hours=1)


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


async def halt(ledger: Ledger, person: Person, end: Ending) -> Said:
    """Let no retry call leave; raises CommandError when that is so already."""
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


async def unhalt(ledger: Ledger, person: Person) -> Said:
    """Let retry calls leave again; raises CommandError when nobody paused everything, or it was ended."""
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


async def pause_workflow(ledger: Ledger, wanted: str, person: Person, end: Ending) -> Said:
    """Let no retry call of a workflow leave; raises CommandError when that is so already."""
    now, workflow, before = await _find(ledger, wanted)
    if is_paused(before, now):
        raise CommandError(_workflow_already(workflow, before, now), NO)
    after, _ = await forcing.force(ledger, workflow, Forced.OPEN, person, until=end.after(now), seen=before)
    waiting, flying = await _waiting(ledger, workflow)
    return Said(person, now, workflow, now, after.forced_until, waiting, under_way=flying)


async def resume_workflow(ledger: Ledger, wanted: str, person: Person) -> Said:
    """Let a workflow's retry calls leave again; raises CommandError when it is not paused."""
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
    return summary.now, workflow, summary.breakers.get(workflow.key, UNTOUCHED)


async def _waiting(ledger: Ledger, workflow: Named) -> tuple[int, int]:
    """Return how many lineages wait for a workflow, and how many of its clones are under way."""
    reports, _ = await WorkflowReports(ledger).look({workflow.key: UNTOUCHED}, WINDOW)
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
        f"kinetic-retry resume {shlex.quote(workflow.key)} --reason …"
    )


def _nothing_paused(names: tuple[str, ...]) -> str:
    if not names:
        return "nothing is paused; see kinetic-retry status"
    return (
        f"only single workflows are paused ({', '.join(names[:5])}): kinetic-retry resume WORKFLOW --reason …"
    )


def _plain(workflow: Named) -> str:
    return workflow.name or workflow.uuid or workflow.key
