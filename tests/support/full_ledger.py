"""A ledger with any number of lineages in it, of every kind, as workers would have left it.

Every lineage is stored by the worker's own commit, so that records, indexes, groups, names, verdicts, events
and returns are the true ones; what several commits would have left behind is added beside it.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from worker.domain.executions import Execution, Status
from worker.domain.lineage import Attempt, Intent, Lineage, State
from worker.domain.policy import History, Policy, decide
from worker.domain.transitions import Change, Event, discover
from worker.ledger import Ledger, Outcome
from worker.ledger.reports import Reports
from worker.ledger.returns import Returned, hour_of, step_of

AT_ONCE = 1000
DAYS = 7
PAYERS = ("Meridian", "Northwind", "Cascade", "Harbor", "Summit")
KINDS = (
    "Eligibility",
    "Claim status",
    "Prior authorisation",
    "Remittance",
    "Referral",
    "Intake",
    "[b]Portal[/]",
    "",
)
KINDS_OF_ENDS: tuple[tuple[int, State, tuple[str, ...]], ...] = (
    (600, State.RECOVERED, ("completed",)),
    (220, State.EXHAUSTED, ("attempts_used_up", "deadline_passed", "deterministic")),
    (60, State.SCHEDULED, ("backoff", "prompt", "workflow_failing", "budget")),
    (50, State.REJECTED, ("not_found", "validation_error", "log_rule")),
    (40, State.RUNNING, ("",)),
    (15, State.HELD, ("unclear", "held_by_person")),
    (8, State.CANCELLED, ("cancelled_by_person",)),
    (5, State.UNRESOLVED, ("read_timeout",)),
    (2, State.SUBMITTING, ("",)),
)
MOST_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Workflow:
    uuid: str
    version: str
    name: str


async def fill(ledger: Ledger, count: int, *, seed: int = 7, days: int = DAYS) -> None:
    """Put so many lineages into a ledger, with failures of the last days."""
    await ledger.begin(timedelta(days=days + 1))
    now = await Reports(ledger).now()
    dice = random.Random(seed)
    changes = _changes(count, dice, now, timedelta(days=days))
    returns: Counter[tuple[int, str]] = Counter()
    while batch := list(islice(changes, AT_ONCE)):
        outcomes = await asyncio.gather(*map(ledger.commit, batch))
        assert set(outcomes) == {Outcome.COMMITTED}
        lineages = [change.after for change in batch]
        clones = [item for each in lineages for a in each.attempts for item in (a.clone, each.root)]
        await _send(ledger, [("HSET", ledger.keys.clones, *clones)])
        returns.update(counted for each in lineages for counted in _returned(each))
    # The commits counted every recovery in the hour in which they were sent.
    hours = range(hour_of(now), hour_of(await Reports(ledger).now()) + 1)
    await _send(ledger, [("DEL", ledger.keys.returns(hour)) for hour in hours])
    counts = [("HINCRBY", ledger.keys.returns(hour), what, n) for (hour, what), n in returns.items()]
    for start in range(0, len(counts), AT_ONCE):
        await _send(ledger, list(counts[start : start + AT_ONCE]))


def workflows(dice: random.Random) -> list[Workflow]:
    """Return forty workflows, some without a name."""
    return [
        Workflow(_uuid(dice), _uuid(dice), f"{kind}, {payer}" if kind else "")
        for kind in KINDS
        for payer in PAYERS
    ]


def _changes(count: int, dice: random.Random, now: datetime, span: timedelta) -> Iterator[Change]:
    known = workflows(dice)
    weights = [weight for weight, _, _ in KINDS_OF_ENDS]
    for _ in range(count):
        _, state, reasons = dice.choices(KINDS_OF_ENDS, weights)[0]
        whose = dice.choices(known, range(1, len(known) + 1))[0]
        failed_at = now - span * dice.random()
        begun = _begun(whose, dice, failed_at)
        yield _ended(begun, state, dice.choice(reasons), dice, now)


def _begun(whose: Workflow, dice: random.Random, failed_at: datetime) -> Change:
    failed = Execution(
        uuid=_uuid(dice),
        status=Status.FAILED,
        workflow_version_uuid=whose.version,
        workflow_uuid=whose.uuid,
        workflow_name=whose.name,
        fingerprint=f"{dice.getrandbits(128):032x}",
        created_at=failed_at - timedelta(minutes=2),
        updated_at=failed_at,
    )
    policy = Policy()
    return discover(
        failed,
        failed_at=failed_at,
        seen_at=failed_at + timedelta(seconds=15 * dice.random()),
        source="list",
        dated=True,
        decision=decide(History(0, failed_at, failed_at), policy, failed_at, dice.random),
        policy=policy,
        policy_name="default",
    )


def _ended(begun: Change, state: State, reason: str, dice: random.Random, now: datetime) -> Change:
    """Return the discovery of a lineage that is in a later state at once."""
    first = begun.after
    made = MOST_ATTEMPTS if reason == "attempts_used_up" else dice.randrange(MOST_ATTEMPTS)
    attempts = tuple(_attempts(first, max(made, state in (State.RUNNING, State.RECOVERED)), state, dice, now))
    since = min((attempts[-1].ended_at or attempts[-1].accepted_at) if attempts else first.seen_at, now)
    in_doubt = state in (State.SUBMITTING, State.UNRESOLVED)
    after = replace(
        first,
        state=state,
        reason=reason,
        detail=f"detail of {reason}" if reason else "",
        since=since,
        attempts=attempts,
        due_at=now + timedelta(hours=4 * dice.random() - 1) if state is State.SCHEDULED else None,
        intent=Intent("call", first.root, since, now + timedelta(minutes=2)) if in_doubt else None,
    )
    names = {State.RECOVERED: "execution_recovered", State.EXHAUSTED: "retries_exhausted"}
    ends = (Event(names[state], {"reason": reason, "attempt": after.made}),) if state in names else ()
    return Change(None, after, (*begun.events, *ends))


def _attempts(
    lineage: Lineage, count: int, state: State, dice: random.Random, now: datetime
) -> Iterator[Attempt]:
    waits = [4**number * dice.random() / 4 for number in range(1, count + 1)]
    runs = [3 * dice.random() for _ in waits]
    passed = (now - lineage.root_failed_at) / timedelta(minutes=1)
    shrink = min(1.0, passed / (sum(waits) + sum(runs) + 1)) if count else 1.0  # nothing ends in the future
    of, at = lineage.root, lineage.root_failed_at
    for wait, run in zip(waits, runs, strict=True):
        at += timedelta(minutes=wait * shrink)
        ended_at = at + timedelta(minutes=run * shrink)
        is_last = wait is waits[-1]
        outcome = "completed" if state is State.RECOVERED and is_last else "failed"
        if state is State.RUNNING and is_last:
            outcome = ""
        clone = _uuid(dice)
        yield Attempt(
            clone, of, timedelta(minutes=wait), at, at + timedelta(milliseconds=1), "201", alive=True,
            ended_at=ended_at if outcome else None, outcome=outcome,
        )  # fmt: skip
        of, at = clone, ended_at


def _returned(lineage: Lineage) -> Iterator[tuple[int, str]]:
    """Yield what became of its clones: the hour, and what is counted in it."""
    for number, attempt in enumerate(lineage.attempts, 1):
        yield hour_of(attempt.accepted_at), Returned(lineage.workflow, number, "made").field
        if attempt.ended_at and attempt.outcome == "failed":
            yield hour_of(attempt.ended_at), Returned(lineage.workflow, number, "failed").field
    if lineage.state is State.RECOVERED and lineage.newest.ended_at:
        took = lineage.newest.ended_at - lineage.root_failed_at
        for what in ("recovered", f"t{step_of(took)}"):
            yield (
                hour_of(lineage.newest.ended_at),
                Returned(lineage.workflow, lineage.made, what).field,
            )


async def _send(ledger: Ledger, commands: list[tuple[object, ...]]) -> None:
    for answer in await ledger.connection.pipelined(commands):
        assert not isinstance(answer, Exception), answer


def _uuid(dice: random.Random) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))
