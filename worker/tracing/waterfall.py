"""A step of a lineage as bars of its waterfall: what of it is over now, from when to when.

Owns which bars there are, how they hang together and what they say. Pure: a stored change in, bars out. Bars
are drawn when they are over, by whichever process stored that; a parent may so be drawn days after its
children. No bar holds words of the API: reasons are ours, and short.

    lineage                 the first failure to the verdict
      notice                until it was seen
      attempt               the failure to the end of its clone, or until it was clear that there is none
        wait                until the intent
        (the retry call, drawn by whoever makes it)
        in doubt            while nobody knew whether the call had made a clone
        clone               its run
      joined run            of a retry that someone else made
      held                  while a person had to decide
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from worker.domain.lineage import Attempt, Lineage, State
from worker.domain.transitions import DECIDED_BY_PERSON, Change
from worker.tracing.ids import span_of

Facts: TypeAlias = dict[str, str | int | float | bool]

_STAYS = {State.SCHEDULED: "wait", State.UNRESOLVED: "in doubt", State.HELD: "held"}
_BAD_ENDS = (State.EXHAUSTED, State.REJECTED)


@dataclass(frozen=True, slots=True)
class Bar:
    """One span to be.

    Attributes:
        parent: the span it belongs to; None for the lineage itself.
        trouble: why what it shows failed, in a word; "" when it did not.
    """

    name: str
    span_id: int
    parent: int | None
    begins: datetime
    ends: datetime
    facts: Facts = field(default_factory=dict)
    trouble: str = ""


def bars_of(change: Change) -> Iterator[Bar]:
    """Yield what is over by a change, the inner ones first."""
    before, after = change.before, change.after
    if before is None:
        yield _bar(after, "notice", after.root_failed_at, after.seen_at, source=after.source)
    elif before.state is not after.state and before.state in _STAYS:
        yield _stay(before, after)
    yield from _ended_attempts(before, after)
    if after.state.is_final and (before is None or before.state is not after.state):
        yield from _attempt_left_open(before, after)
        yield _lineage(after)


def lineage_span(root: str) -> int:
    """Return the id of the span of a whole lineage."""
    return span_of(root, "lineage")


def attempt_span(root: str, number: int) -> int:
    """Return the id of the span of an attempt, counted from 1."""
    return span_of(root, "attempt", number)


def call_span(root: str, token: str) -> int:
    """Return the id of the span of a retry call."""
    return span_of(root, "call", token)


def _bar(lineage: Lineage, name: str, begins: datetime, ends: datetime, **facts: str | float | bool) -> Bar:
    """Return a bar right below the lineage."""
    told = {f"kinetic.{key}": fact for key, fact in facts.items() if fact != ""}
    span = span_of(lineage.root, name, lineage.version)
    return Bar(name, span, lineage_span(lineage.root), begins, max(begins, ends), told)


def _stay(before: Lineage, after: Lineage) -> Bar:
    """Return the time in a state that was left: the attempt's, if a call is or was made for it."""
    begins, number = before.since, before.next_attempt
    facts: Facts = {"kinetic.reason": before.reason, "kinetic.then": after.state.value}
    if before.state is State.SCHEDULED:
        if not before.undelivered and before.reason != DECIDED_BY_PERSON:
            # From the failure on, however often it was put off: `since` is when that happened last.
            begins = max(before.last_failed_at, before.seen_at)
        facts |= {"kinetic.attempt": number, "kinetic.policy": before.policy}
        if before.delay is not None:
            facts["kinetic.delay_s"] = before.delay.total_seconds()
    has_call = after.state is State.SUBMITTING or before.intent is not None
    parent = attempt_span(before.root, number) if has_call else lineage_span(before.root)
    name = _STAYS[before.state]
    span = span_of(before.root, name, before.version)
    return Bar(name, span, parent, begins, max(begins, after.since), facts)


def _ended_attempts(before: Lineage | None, after: Lineage) -> Iterator[Bar]:
    """Yield the runs that ended by this change; one is told from another in place by when it was made."""
    known = (
        {(each.clone, each.submitted_at) for each in before.attempts if each.ended_at} if before else set()
    )
    number = 0
    for each in after.attempts:
        number += not each.joined
        if each.ended_at is None or (each.clone, each.submitted_at) in known:
            continue
        if each.joined:
            yield _run(after, each, "joined run", lineage_span(after.root))
            continue
        yield _run(after, each, "clone", attempt_span(after.root, number))
        yield _attempt(after, number, _failed_before(after, each), each.ended_at, each.outcome)


def _run(lineage: Lineage, attempt: Attempt, name: str, parent: int) -> Bar:
    ends = attempt.ended_at or attempt.accepted_at
    begins = attempt.submitted_at if attempt.joined else attempt.accepted_at
    if ends < begins:  # it was over before its answer was taken in
        begins = min(attempt.submitted_at, ends)
    facts: Facts = {
        "kinetic.execution": attempt.clone,
        "kinetic.retry_of": attempt.of,
        "kinetic.outcome": attempt.outcome,
    }
    span = span_of(lineage.root, name, attempt.clone, attempt.submitted_at.isoformat())
    return Bar(
        name, span, parent, begins, ends, facts, "" if attempt.outcome == "completed" else attempt.outcome
    )


def _attempt(lineage: Lineage, number: int, begins: datetime, ends: datetime, outcome: str) -> Bar:
    facts: Facts = {"kinetic.attempt": number, "kinetic.outcome": outcome}
    trouble = "" if outcome in ("completed", State.CANCELLED) else outcome
    span, parent = attempt_span(lineage.root, number), lineage_span(lineage.root)
    return Bar("attempt", span, parent, begins, max(begins, ends), facts, trouble)


def _attempt_left_open(before: Lineage | None, after: Lineage) -> Iterator[Bar]:
    """Yield the attempt that the verdict cut short: without a clone, or without the clone's end."""
    if before is None:
        return
    newest = after.attempts[-1] if after.attempts else None
    if newest and before.state is State.RUNNING:
        if newest.ended_at is None and not newest.joined:
            begins = _failed_before(after, newest)
            yield _attempt(after, before.made, begins, after.since, after.reason or after.state.value)
    elif before.intent is not None:
        begins = max(before.last_failed_at, before.seen_at)
        yield _attempt(after, before.next_attempt, begins, after.since, after.reason or after.state.value)


def _failed_before(lineage: Lineage, attempt: Attempt) -> datetime:
    """Return when the run failed that an attempt is a retry of."""
    failed_at = max(lineage.root_failed_at, lineage.seen_at)
    for each in lineage.attempts:
        if each is attempt:
            break
        if each.clone == attempt.of and each.ended_at:
            failed_at = each.ended_at
    return min(failed_at, attempt.submitted_at)


def _lineage(lineage: Lineage) -> Bar:
    newest = lineage.attempts[-1].ended_at if lineage.attempts else None
    facts: Facts = {
        "kinetic.state": lineage.state.value,
        "kinetic.reason": lineage.reason,
        "kinetic.attempts": lineage.made,
        "kinetic.policy": lineage.policy,
    }
    trouble = lineage.reason if lineage.state in _BAD_ENDS else ""
    begins = lineage.root_failed_at
    ends = max(begins, lineage.since, newest or lineage.since)
    return Bar("lineage", lineage_span(lineage.root), None, begins, ends, facts, trouble)
