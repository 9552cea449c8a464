"""Whole lives of lineages, stored by the worker's own commits: records, indexes and events are true."""

from __future__ import annotations

import asyncio
import random
import secrets
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tests.support.full_ledger import Workflow, workflows
from worker.domain import orders, transitions
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import GiveUp, GiveUpReason, History, Policy, decide
from worker.domain.transitions import Change
from worker.ledger import Ledger, Outcome

AT_ONCE = 500
POLICY = Policy()
SPAN = timedelta(hours=12)
"""So long ago the first failures are: what is kept for a day is there of all of them."""
MOST_ATTEMPTS = 2
BY = "ann@ops: ticket 4711"


@dataclass(frozen=True, slots=True)
class Life:
    """How a lineage ends, or where it stands, and how many clones are made on the way."""

    end: State
    attempts: int = MOST_ATTEMPTS


async def live(ledger: Ledger, lives: Sequence[Life], dice: random.Random) -> list[Lineage]:
    """Let lineages live, many at a time; return what became of them, in the order of `lives`."""
    known, now = workflows(random.Random(1)), ledger.clock.now()
    ended: list[Lineage] = []
    for start in range(0, len(lives), AT_ONCE):
        stories = [_story(each, dice.choice(known), dice, now) for each in lives[start : start + AT_ONCE]]
        ended += await asyncio.gather(*(_stored(ledger, story) for story in stories))
    return ended


async def _stored(ledger: Ledger, story: Iterator[Change]) -> Lineage:
    for change in story:
        outcome = await ledger.commit(change)
        assert outcome is Outcome.COMMITTED, outcome
    return change.after


def _story(life: Life, whose: Workflow, dice: random.Random, now: datetime) -> Iterator[Change]:
    """Yield the steps of a life. All of them are over, and what is scheduled then is due."""
    at = now - SPAN * (0.2 + 0.8 * dice.random())
    root = failed_run(whose, dice, at)
    change = transitions.discover(
        root,
        failed_at=at,
        seen_at=at + timedelta(seconds=15 * dice.random()),
        source="list",
        dated=True,
        decision=decide(History(0, at, at), POLICY, at, dice.random),
        policy=POLICY,
        policy_name="default",
    )
    yield change
    for number in range(1, life.attempts + 1):
        at = (change.after.due_at or at) + timedelta(seconds=dice.random())
        change = _submit(change.after, at)
        yield change
        at += timedelta(milliseconds=50 + 300 * dice.random())
        clone = replace(failed_run(whose, dice, at), status=Status.QUEUED, fingerprint=root.fingerprint)
        change = transitions.accept(change.after, clone, now=at, evidence="201")
        yield change
        at += timedelta(minutes=1 + 3 * dice.random())
        if number < life.attempts or life.end not in (State.RUNNING, State.RECOVERED):
            change = _fail(change.after, replace(clone, status=Status.FAILED, updated_at=at), life, dice)
            yield change
    if change.after.state is not life.end:
        yield from _end(change.after, life.end, at)


def failed_run(whose: Workflow, dice: random.Random, at: datetime) -> Execution:
    """Return a run of a workflow that failed at that time."""
    return Execution(
        uuid=str(uuid.UUID(int=dice.getrandbits(128), version=4)),
        status=Status.FAILED,
        workflow_version_uuid=whose.version,
        workflow_uuid=whose.uuid,
        workflow_name=whose.name,
        fingerprint=f"{dice.getrandbits(88):022x}",
        created_at=at - timedelta(minutes=2),
        updated_at=at,
        n_steps=dice.randrange(3, 30),
        n_agent_actions=dice.randrange(10, 200),
        duration_ms=dice.randrange(20_000, 200_000),
    )


def _submit(lineage: Lineage, at: datetime) -> Change:
    lease = timedelta(minutes=2)
    return transitions.submit(lineage, token=secrets.token_hex(8), now=at, lease=lease, policy=POLICY)


def _fail(lineage: Lineage, clone: Execution, life: Life, dice: random.Random) -> Change:
    at = clone.updated_at or lineage.since
    failed = History(lineage.made, lineage.root_failed_at, at, lineage.newest.delay)
    decision = decide(failed, POLICY, at, dice.random)
    if life.end is State.EXHAUSTED and lineage.made == life.attempts:
        used_up = f"{lineage.made} of {lineage.made} attempts were made"
        decision = GiveUp(GiveUpReason.ATTEMPTS_USED_UP, used_up)
    return transitions.fail_again(
        lineage, clone, decision, failed_at=at, now=at, policy=POLICY, policy_name="default"
    )


def _end(lineage: Lineage, end: State, at: datetime) -> Iterator[Change]:
    if end is State.RECOVERED:
        yield transitions.recover(lineage, now=at, ended_at=at)
    elif end is State.CANCELLED:
        yield orders.cancel(lineage, detail=BY, now=at)
    else:
        change = _submit(lineage, at)
        yield change
        if end is State.REJECTED:
            yield transitions.reject(change.after, reason="not_found", detail="HTTP 404", now=at)
        elif end is not State.SUBMITTING:
            change = transitions.unresolve(
                change.after, reason="read_timeout", detail="no answer within 30 s", now=at
            )
            yield change
            if end is State.HELD:
                yield transitions.hold(change.after, reason="unclear", detail="2 runs may be it", now=at)
