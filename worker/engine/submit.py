"""Send the retry calls that are due: record the intent, look at the lease, send, record what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.domain import transitions
from worker.domain.admission import View
from worker.domain.delivery import (
    Accepted,
    Conflict,
    Delivery,
    NotDelivered,
    Refused,
    Unclear,
    redelivery_delay,
)
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State
from worker.domain.logs import LOG_RULE, Then
from worker.domain.policy import Policy, Rule, ends_at, may_start, opening
from worker.domain.transitions import CONFLICT, Change, IllegalTransitionError
from worker.engine.context import CLOCK_MARGIN, Context
from worker.engine.desk import Workflow
from worker.engine.gatekeeper import GateClosed
from worker.engine.log_rules import read_rules
from worker.engine.pool import Pool
from worker.engine.release import release
from worker.kinetic import KineticError, NotFound
from worker.ledger import Claim, LedgerError, Outcome

CALENDAR = Rule.CALENDAR.value
_JUST_AFTER, _AT_LEAST = timedelta(milliseconds=100), timedelta(seconds=1)
MOST_CONFLICTS = 5
"""Conflicts in a row after which a failed execution is taken for one that cannot be retried."""
_RECORD_AGAIN_AFTER_S = 0.5
_PREPARED_AT_ONCE, _PREPARED_OF_QUICK, _QUICK_S = 5, 10, 0.05
"""Intents on their way to the ledger. Calls that left together come back together: were all of them put on
record together again, every place would wait for the last of them each time. Where answers come at once, what
counts is that few trips are made: there are more then."""
_CALL_EVERY_S = 0.5
"""Siblings are called so often at most: a message to each costs as much as a retry."""
_Sent = tuple[Lineage, Delivery]
"""A lineage as its intent was recorded, and what became of the call."""
_FORBIDDEN_AGAIN, _FORBIDDEN_AT_LEAST_EVERY = timedelta(seconds=5), timedelta(hours=1)
"""How long an execution that our key may not retry waits, at first and at most: others come before it."""


async def submit(ctx: Context, call_siblings: Callable[[int], None] = lambda _: None) -> dict[str, int]:
    """Work on what is due for a bounded time; return what was done, in numbers.

    Args:
        ctx: the world.
        call_siblings: asked to wake that many more workers when the backlog is larger than a batch.
    """
    released = await release(ctx)
    run = _Submission(ctx, call_siblings)
    pool = Pool(
        run.supply,
        run.work,
        concurrency=ctx.options.submit_concurrency + _beside(ctx.options.submit_concurrency),
        budget=ctx.options.batch_budget,
        keep_going=lambda: run.goes_on,
    )
    try:
        await pool.run()
    finally:
        await run.give_back([*pool.not_begun, *run.gated])
        await run.park()
    await asyncio.gather(*run.calls)
    if run.gate in ("suspended", "down"):
        await ctx.calls.probe(await ctx.ledger.gate.look())
    return {**run.did, "released": released} if released else run.did


@dataclass(slots=True)
class _Submission:
    """One task's share of the due lineages.

    Attributes:
        open: whether the gate let the last intent through.
        gate: what it said when work was claimed last.
        called_at_s: when siblings were called last.
        under_way: lineages claimed and not yet given a call or given back.
        ended: set by every one of them that has ended.
        gated: lineages for others to claim, since no call leaves now.
        waiting: lineages that go on waiting for their workflow.
        closings: of the gate, when it began.
        places: one for each call that may be under way.
        answered_in_s: how long the last call took.
        preparing, preparing_quick: bound the intents on their way, see `_PREPARED_AT_ONCE`.
    """

    ctx: Context
    call_siblings: Callable[[int], None]
    open: bool = True
    gate: str = ""
    called_at_s: float = float("-inf")
    under_way: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    did: dict[str, int] = field(default_factory=dict)
    gated: list[Lineage] = field(default_factory=list)
    waiting: list[Lineage] = field(default_factory=list)
    calls: list[asyncio.Task[None]] = field(default_factory=list)
    closings: int = field(init=False)
    places: asyncio.Semaphore = field(init=False)
    lingers_until_s: float = field(init=False)
    answered_in_s: float = _QUICK_S
    preparing: asyncio.Semaphore = field(init=False)
    preparing_quick: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        """Have a place for each call that may be under way at once."""
        self.closings = self.ctx.calls.closings
        self.preparing = asyncio.Semaphore(_PREPARED_AT_ONCE)
        self.preparing_quick = asyncio.Semaphore(_PREPARED_OF_QUICK)
        self.places = asyncio.Semaphore(self.ctx.options.submit_concurrency)
        self.lingers_until_s = time.monotonic() + self.ctx.options.linger.total_seconds()

    @property
    def goes_on(self) -> bool:
        """Whether another call may be begun."""
        return self.open and self.ctx.calls.closings == self.closings and not self.ctx.stopping()

    async def supply(self) -> Sequence[Lineage]:
        """Claim what is due: one at a time until the API has answered one, a batch from then on.

        Whether the API answers is not known before it has: many calls at once into an outage would each
        be a call in vain, or one whose outcome is unknown.
        """
        options, calls = self.ctx.options, self.ctx.calls
        self.ended.clear()
        if self.under_way and not calls.answers_lately:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), options.slow_start.total_seconds())
        claim = await self._claim()
        self.gate = claim.gate
        calls.opening = claim.gate in ("opening", "full")
        if claim.remaining and calls.answers_lately and time.monotonic() - self.called_at_s > _CALL_EVERY_S:
            # In a thread: a broker that is away would hold up every call that is in the air.
            wanted = -(-claim.remaining // options.submit_batch)
            self.called_at_s = time.monotonic()
            self.calls.append(asyncio.create_task(asyncio.to_thread(self.call_siblings, wanted)))
        found = await self.ctx.ledger.read(claim.members)
        for each in found.values():
            if not isinstance(each, Lineage):
                self.ctx.log.error("record_unreadable", detail=str(each))
        lineages = [each for each in found.values() if isinstance(each, Lineage)]
        await self.ctx.desk.look(map(Workflow.of, lineages))
        if not calls.answers_lately:
            lineages = await self._first_of(lineages)
        self.under_way += len(lineages)
        return lineages

    async def _claim(self) -> Claim:
        """Claim what is due; wait for what falls due while the task may linger, for ticks are far apart."""
        options = self.ctx.options
        while True:
            claim = await self.ctx.ledger.claim(
                State.SCHEDULED,
                limit=options.submit_batch,
                hide_for=options.batch_budget * 2,
                lease=options.submit_lease,
                rate=options.token_bucket,
            )
            left_s = self.lingers_until_s - time.monotonic()
            if claim.members or claim.next_in is None or not self.goes_on:
                return claim
            if claim.next_in.total_seconds() > left_s:
                return claim
            await asyncio.sleep(claim.next_in.total_seconds())

    async def _first_of(self, lineages: Sequence[Lineage]) -> list[Lineage]:
        """Return those that have to wait anyhow and one of the others; give the rest back."""

        def waits(lineage: Lineage) -> bool:
            return self._view(lineage).objection is not None

        waiting: list[Lineage] = []
        going: list[Lineage] = []
        for each in lineages:
            (waiting if waits(each) else going).append(each)
        await self.give_back(going[1:])
        return [*waiting, *going[:1]]

    def _view(self, lineage: Lineage) -> View:
        """Return what is known of its workflow, as far as it counts for this lineage."""
        seen = self.ctx.desk.view(Workflow.of(lineage), lineage.last_failed_at)
        return seen.by_order if lineage.is_ordered else seen

    async def give_back(self, lineages: Sequence[Lineage]) -> None:
        """Let others claim what was not begun."""
        times = {each.root: each.due_at for each in lineages if each.due_at}
        await self.ctx.ledger.reschedule(State.SCHEDULED, times)

    async def work(self, lineage: Lineage) -> None:
        """Take one lineage from `scheduled` to wherever its retry call leads."""
        async with self.places:
            try:
                if self.goes_on:  # asked once more: it may have waited for its place as long as a call takes
                    sent = await self._work(lineage)
                else:
                    sent = None
                    self.gated.append(lineage)
            finally:
                self.under_way -= 1
                self.ended.set()
        if sent:
            await settle(self.ctx, *sent)

    async def _work(self, lineage: Lineage) -> _Sent | None:
        """Return what is left to be recorded of a call that was sent; None where there was none."""
        ctx, now = self.ctx, self.ctx.now()
        if lineage.state is not State.SCHEDULED or not lineage.due_at:
            return None
        if lineage.due_at > now:  # the index was given back a little early
            await self.give_back([lineage])
            return None
        policy, policy_name = ctx.policy_for(lineage)
        objection = None if lineage.is_ordered else may_start(lineage.history, policy, now)
        if objection:
            await ctx.commit(transitions.give_up(lineage, objection, policy, policy_name, now=now))
            return None
        seen = await self._room_for(lineage, policy, now)
        if seen is None:
            return None
        if self._may_be_retried_already(lineage, policy, now):
            later = now + max(ctx.options.discovery_interval / 3, _AT_LEAST)
            await ctx.ledger.reschedule(State.SCHEDULED, {lineage.root: later})
            self.count("unsurveyed")
        elif lineage.conflicts and not await self._still_failed(lineage):
            self.count("not_failed_any_more")
        elif await self._log_allows(lineage, policy):
            return await self._send(lineage, policy, seen)
        return None

    def _may_be_retried_already(self, lineage: Lineage, policy: Policy, now: datetime) -> bool:
        """Whether nobody has read the list for so long that someone may have made this retry meanwhile.

        After a downtime whatever fell due would be sent before the first survey, and people retry by hand
        while the workers are away. A list that cannot be read holds nobody up longer than `survey_patience`.
        """
        ctx = self.ctx
        if lineage.is_ordered or not (policy.join and lineage.fingerprint and ctx.options.surveys):
            return False
        surveyed_at = ctx.desk.surveyed_at(Workflow.of(lineage))
        if surveyed_at and now - surveyed_at < 2 * ctx.options.discovery_interval + CLOCK_MARGIN:
            ctx.unsurveyed_since = None
            return False
        ctx.unsurveyed_since = ctx.unsurveyed_since or now
        return now - ctx.unsurveyed_since < ctx.options.survey_patience

    async def _log_allows(self, lineage: Lineage, policy: Policy) -> bool:
        """Ask the failed run's log where the policy has rules; end or hold the lineage by what it says."""
        if lineage.is_ordered or lineage.overruled == lineage.failing:
            return True
        stamp = lineage.failure_stamp
        try:
            rule = await read_rules(self.ctx, lineage.failing, policy.log_rules, failed_at=stamp)
        except GateClosed:
            self.gated.append(lineage)
            return False
        if rule is None or rule.then is Then.RETRY:
            return True
        detail = f'the log of {lineage.failing} matches the rule "{rule.name}"'
        now = self.ctx.now()
        if rule.then is Then.STOP:
            await self.ctx.commit(transitions.reject(lineage, reason=LOG_RULE, detail=detail, now=now))
        else:
            await self.ctx.commit(transitions.hold(lineage, reason=LOG_RULE, detail=detail, now=now))
        self.count(f"log_{rule.then}")
        return False

    async def _send(self, lineage: Lineage, policy: Policy, seen: View) -> _Sent | None:
        """Record the intent and send the call; return what came of it."""
        ctx, workflow = self.ctx, Workflow.of(lineage)
        token = secrets.token_hex(8)
        intent = transitions.submit(
            lineage, token=token, now=ctx.now(), lease=ctx.options.submit_lease, policy=policy
        )
        ctx.desk.made(workflow)
        limits = ctx.desk.admission(workflow, seen, ctx.options.token_bucket)
        async with self.preparing_quick if self.answered_in_s < _QUICK_S else self.preparing:
            outcome = await ctx.commit(intent, admission=limits)
        if outcome is Outcome.GATED:
            self.open = ctx.calls.opening  # while it opens, a place may become free at any moment
        if outcome is Outcome.PACED:
            self.open = False
        if outcome in (Outcome.GATED, Outcome.PACED):
            self.gated.append(lineage)
        if outcome is Outcome.LIMITED:
            await self._limited(lineage)
        if outcome is Outcome.NOT_DURABLE:
            detail = "the intent could still be lost by a crash or failover of Redis; the call was not sent"
            return intent.after, NotDelivered("not_durable", detail)
        if outcome is not Outcome.COMMITTED:
            return None
        sent_s = time.monotonic()
        delivery = await send(ctx, intent.after)
        self.answered_in_s = time.monotonic() - sent_s
        self.count(type(delivery).__name__.lower())
        return intent.after, delivery

    async def _room_for(self, lineage: Lineage, policy: Policy, now: datetime) -> View | None:
        """Return what is known of its workflow if its retry may go now.

        Else put it off, with the reason on record: its calendar, its workflow or a limit.
        """
        ctx = self.ctx
        closed = None if lineage.is_ordered else policy.calendar.objection(now)
        if closed:
            due_at = opening(policy.calendar, now, ends_at(lineage.history, policy), ctx.random)
            detail = f"not during {closed}"
            await ctx.commit(
                transitions.defer(lineage, reason=CALENDAR, detail=detail, now=now, due_at=due_at)
            )
            self.count(CALENDAR)
            return None
        workflow = Workflow.of(lineage)
        await ctx.desk.look([workflow])
        seen = self._view(lineage)
        limit = seen.objection
        if not limit:
            return seen
        self.count(limit.value)
        if lineage.reason == limit.value:  # on record already, with the figures of when it began to wait
            self.waiting.append(lineage)
        else:
            detail = ctx.desk.in_words(limit, seen)
            change = transitions.defer(lineage, reason=limit, detail=detail, now=now)
            await ctx.commit(change, next_at=self._look_again_at(lineage))
        return None

    async def _limited(self, lineage: Lineage) -> None:
        """The ledger knows better: look again, and wait unless there is room after all."""
        policy, _ = self.ctx.policy_for(lineage)
        await self.ctx.desk.look([Workflow.of(lineage)], fresh=True)
        if await self._room_for(lineage, policy, self.ctx.now()):
            await self.give_back([lineage])

    async def park(self) -> None:
        """Hide what waits for its workflow until there is room."""
        times = {each.root: self._look_again_at(each) for each in self.waiting}
        await self.ctx.ledger.workflows.park(self.waiting, times)

    def _look_again_at(self, lineage: Lineage) -> datetime:
        """Return when a lineage that waits is looked at all the same: just after its end at the latest."""
        now, (policy, _) = self.ctx.now(), self.ctx.policy_for(lineage)
        if lineage.is_ordered:
            return now + self.ctx.options.look_again  # its end was overruled as well
        over_at = max(now, ends_at(lineage.history, policy)) + _JUST_AFTER
        return min(now + self.ctx.options.look_again, over_at)

    def count(self, what: str) -> None:
        """Count what was done."""
        self.did[what] = self.did.get(what, 0) + 1

    async def _still_failed(self, lineage: Lineage) -> bool:
        """Look before another call for an execution that the API would not retry: it may run again."""
        ctx, now = self.ctx, self.ctx.now()
        try:
            execution = await ctx.calls.get(lineage.failing)
        except NotFound as error:
            await ctx.commit(_vanished(lineage, error, now))
            return False
        except KineticError:
            status = Status.UNKNOWN
        else:
            status = execution.status
            if status is Status.COMPLETED:
                await ctx.commit(_completed_anyway(lineage, execution, now))
                return False
        if status is not Status.FAILED:
            later = now + ctx.options.watch_interval
            await ctx.ledger.reschedule(State.SCHEDULED, {lineage.root: later})
        return status is Status.FAILED


def _beside(concurrency: int) -> int:
    """Return for how many calls the outcome is put on record while all that may be under way are.

    No place for a call is idle while the ledger is written.
    """
    return max(2, concurrency // 4)


async def send(ctx: Context, lineage: Lineage) -> Delivery:
    """Send the retry call of an intent that is on record, if its lease still outlasts the call."""
    intent = lineage.intent
    # A process can be stopped for minutes between the record and this line (SIGSTOP, swap, a paused VM).
    # Others then take the lease for lost and look for a clone: a call sent now could make it after they did.
    if intent is None or ctx.now() + ctx.options.request_bound > intent.lease_until:
        return NotDelivered("lease_too_short", "this worker was held up; the call was not sent")
    with ctx.tracer.sending(lineage) as sending:
        delivery = await ctx.calls.retry(intent.of)
        sending.ended(delivery)
    return delivery


async def settle(ctx: Context, lineage: Lineage, delivery: Delivery) -> None:
    """Record what came of a retry call. What we know is worth keeping: Redis is given until the lease ends.

    When the lease ran out meanwhile and others moved the lineage on, our answer still counts as long as
    the record carries our intent.
    """
    intent = lineage.intent
    while intent and lineage.intent and lineage.intent.token == intent.token:
        try:
            change, next_at = await _settlement(ctx, lineage, delivery)
            outcome = await ctx.commit(change, next_at=next_at)
            if outcome is Outcome.COMMITTED:
                return
            if outcome is Outcome.TAKEN and isinstance(delivery, Accepted):
                delivery = _taken(delivery)
                continue
            again = (await ctx.ledger.read([lineage.root])).get(lineage.root)
            if not isinstance(again, Lineage):
                break
            lineage = again
        except LedgerError:
            if ctx.now() > intent.lease_until:
                break
            await asyncio.sleep(_RECORD_AGAIN_AFTER_S)
        except IllegalTransitionError:
            break
    clone = delivery.clone.uuid if isinstance(delivery, Accepted) else None
    tell = ctx.log.error if clone else ctx.log.info
    tell(
        "outcome_not_recorded",
        root=lineage.root,
        outcome=type(delivery).__name__,
        clone_uuid=clone,
        next="the lineage is resolved by listing; nothing is sent before that",
    )


async def _settlement(ctx: Context, lineage: Lineage, delivery: Delivery) -> tuple[Change, datetime | None]:
    """Return the change that a delivery means, and when the lineage needs attention next."""
    now = ctx.now()
    match delivery:
        case Accepted(clone):
            change = transitions.accept(lineage, clone, now=now, evidence="201")
            return change, ctx.first_look_at(change.after)
        case NotDelivered(reason="forbidden"):
            pause = min(_FORBIDDEN_AGAIN * (1 << min(lineage.undelivered, 10)), _FORBIDDEN_AT_LEAST_EVERY)
            return _again(ctx, lineage, delivery, now, pause), None
        case NotDelivered():
            return _again(ctx, lineage, delivery, now, delivery.pause), None
        case Conflict():
            return await look_after_conflict(ctx, lineage, delivery), None
        case Refused(reason, detail, http_status):
            return transitions.reject(
                lineage, reason=reason, detail=detail, now=now, http_status=http_status
            ), None
        case Unclear(reason, detail, http_status):
            return transitions.unresolve(
                lineage, reason=reason, detail=detail, now=now, http_status=http_status
            ), None


async def look_after_conflict(ctx: Context, lineage: Lineage, conflict: Conflict) -> Change:
    """Look at an execution that the API would not retry, and decide again."""
    now = ctx.now()
    try:
        execution = await ctx.calls.get(lineage.failing)
    except NotFound as error:
        return _vanished(lineage, error, now)
    except KineticError:
        return _again(ctx, lineage, NotDelivered(CONFLICT, conflict.detail, 409), now)
    if execution.status is Status.COMPLETED:
        return _completed_anyway(lineage, execution, now)
    if execution.status is not Status.FAILED:
        detail = f"the execution is {execution.status.value} again; someone else restarted it"
        return _again(ctx, lineage, NotDelivered(CONFLICT, detail, 409), now, ctx.options.watch_interval)
    if lineage.conflicts + 1 >= MOST_CONFLICTS:
        return transitions.reject(lineage, reason=CONFLICT, detail=conflict.detail, now=now, http_status=409)
    return _again(ctx, lineage, NotDelivered(CONFLICT, conflict.detail, 409), now)


def _again(
    ctx: Context,
    lineage: Lineage,
    delivery: NotDelivered,
    now: datetime,
    at_least: timedelta | None = None,
) -> Change:
    delay = max(redelivery_delay(lineage.undelivered, ctx.random), at_least or timedelta(0))
    return transitions.not_delivered(
        lineage,
        reason=delivery.reason,
        detail=delivery.detail,
        due_at=now + delay,
        now=now,
        http_status=delivery.http_status,
    )


def _vanished(lineage: Lineage, error: NotFound, now: datetime) -> Change:
    return transitions.reject(lineage, reason="not_found", detail=error.detail, now=now, http_status=404)


def _completed_anyway(lineage: Lineage, execution: Execution, now: datetime) -> Change:
    detail = "it completed without a retry of ours"
    return transitions.recover(lineage, now=now, ended_at=execution.ended_at(now), detail=detail)


def _taken(delivery: Accepted) -> Refused:
    detail = f"its clone {delivery.clone.uuid} is followed as a lineage of its own"
    return Refused("clone_has_own_lineage", detail, 201)
