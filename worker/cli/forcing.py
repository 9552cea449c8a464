"""What a person may say about a workflow's breaker: which one they mean, and how it is put on record.

Knows nothing of how it is asked for or shown (`breaker`). Every refusal is a `CommandError` in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from uuid import UUID

from worker.cli.errors import NO, WRONG, CommandError
from worker.cli.output import iso
from worker.cli.person import MAX_WHO_CHARS, Person
from worker.domain import breaker as breakers
from worker.domain.breaker import UNTOUCHED, Breaker, Forced
from worker.domain.text import clean_text
from worker.ledger import Ledger
from worker.ledger.workflow_reports import Named
from worker.ledger.workflows import BreakerTold

TRIES = 3
"""Workers judge breakers all the time; more than twice running between a reading and a write is no chance."""
MOST_NAMED = 10


def person_here(reason: str, by: str | None, secrets: Sequence[str]) -> Person:
    """Return who decides and why; `by` names someone else than who runs the command, and both are kept.

    Raises:
        ValueError: there is nothing readable in `reason` or `by`.
    """
    person = Person.here(reason, secrets)
    if by is None:
        return person
    named = clean_text(Person.here(by, secrets).why, MAX_WHO_CHARS)  # made safe in the same way as a reason
    return replace(person, by=f"{named} ({person.by})")


def find(known: Sequence[Named], wanted: str) -> Named:
    """Return the one workflow that a person means.

    An exact uuid or name comes before a pattern; a uuid that is not known yet is taken as it is.

    Raises:
        CommandError: there is none, or there are several.
    """
    folded = wanted.casefold()
    by_uuid = [each for each in known if folded in (each.key.casefold(), each.uuid.casefold())]
    by_name = [each for each in known if each.name.casefold() == folded]
    by_glob = [each for each in known if fnmatchcase(each.name.casefold(), folded)]
    found = by_uuid or by_name or by_glob
    shown = clean_text(wanted, 200)
    if len(found) == 1:
        return found[0]
    if found:
        listed = [f"  {each.key}  {clean_text(each.name, 60)}" for each in found[:MOST_NAMED]]
        more = [f"  … and {len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
        which = "\n".join([*listed, *more])
        raise CommandError(f"{shown!r} may be {len(found)} workflows; name one by its uuid:\n{which}", WRONG)
    try:
        uuid = str(UUID(wanted))
    except ValueError:
        raise CommandError(
            f"no workflow that is known is called {shown!r}: kinetic-retry list shows names.\n"
            "One without a failure yet is named by its uuid.",
            NO,
        ) from None
    return Named(uuid, uuid, "")


async def force(
    ledger: Ledger,
    workflow: Named,
    to: Forced | None,
    person: Person,
    *,
    until: datetime | None = None,
    seen: Breaker | None = None,
) -> tuple[Breaker, bool]:
    """Put on record what a person says about a breaker; return it, and whether that changed anything.

    It holds for every worker from then on: an intent that was prepared by the breaker as it was before is
    refused when it is to be recorded.

    Args:
        ledger: where it is kept.
        workflow: whose breaker it is.
        to: what it is forced to; None = it decides by itself.
        person: who says so.
        until: when it decides by itself again; None = when someone says so.
        seen: the breaker by which the person decided; None = as it is on record now.

    Raises:
        CommandError: another person was faster.
    """
    before = first = seen or await stored(ledger, workflow)
    if to is None and not before.forced:
        return before, False
    for _ in range(TRIES):
        if _said(before) != _said(first):
            break
        forced = breakers.force(before, to, str(person) if to else "", ledger.clock.now(), until)
        told = _told(workflow, before, forced, to, person)
        if await ledger.workflows.store(told):
            return told.after, True
        before = await stored(ledger, workflow)
    now_is = f"forced {before.forced.value} ({before.detail})" if before.forced else before.mode.value
    raise CommandError(f"somebody else was faster, nothing is changed: the breaker is {now_is}", NO)


def _told(
    workflow: Named, before: Breaker, forced: Breaker, to: Forced | None, person: Person
) -> BreakerTold:
    after = replace(
        forced,
        workflow_uuid=workflow.uuid or before.workflow_uuid,
        workflow_name=workflow.name or before.workflow_name,
    )
    facts = {
        "workflow_uuid": workflow.uuid or workflow.key,
        "workflow_name": after.workflow_name,
        "to": to.value if to else "auto",
        "by": person.by,
        "why": person.why,
        "until": iso(after.forced_until),
    }
    return BreakerTold(workflow.key, before, after, event="workflow_breaker_forced", facts=facts)


async def stored(ledger: Ledger, workflow: Named) -> Breaker:
    """Return a workflow's breaker as it is on record."""
    return (await ledger.workflows.breakers()).get(workflow.key, UNTOUCHED)


def _said(breaker: Breaker) -> tuple[Forced | None, str]:
    """Return what a person said about it; what it did by itself does not matter."""
    return breaker.forced, breaker.detail if breaker.forced else ""
