"""Find out what became of retry calls whose outcome nobody knows, by looking for the clone in the list."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.domain import transitions
from worker.domain.delivery import redelivery_delay
from worker.domain.executions import Execution
from worker.domain.lineage import Lineage, State
from worker.domain.resolving import Clarity, Doubt, Finding, match
from worker.domain.transitions import Change
from worker.engine.context import CLOCK_MARGIN, TURN_LEASE, Context, Options
from worker.kinetic import KineticError
from worker.ledger import Outcome, Turn
from worker.ledger.clock import from_ms, to_ms

JOB = "resolve"
_NOT_TO_THE_END = (
    "the list could not be read back to the call: it repeats itself or is cut; see KINETIC_LIST_PAGINATION "
    "(none, if it comes whole) and kinetic-retry check"
)
LIMIT = 1000
PATIENCE = 2
"""Graces that a call stays in doubt while payloads are asked for or others take their clones, at most."""
_NOT_YET = timedelta(-1)
LOOK_BEHIND = timedelta(minutes=10)
"""How far before the oldest doubt the list is read: who shares a payload shows there."""


async def resolve(ctx: Context) -> dict[str, int] | None:
    """Take in lost leases and settle what one listing can settle; None when it was not our turn."""
    gap = ctx.options.resolve_interval / 2
    turn = await ctx.ledger.jobs.begin(JOB, lease=TURN_LEASE, gap=gap, calls_api=True)
    if isinstance(turn, str):
        return None
    streak = _Streak.of(turn.memory)
    try:
        async with ctx.ledger.jobs.keeping(turn):
            lost = await _take_in_lost_leases(ctx)
            doubtful = await _claim(ctx, State.UNRESOLVED)
            settled = await _settle(ctx, turn, streak, doubtful) if doubtful else 0
    except KineticError as error:
        ctx.log.warning(
            "resolve_postponed",
            reason=error.reason,
            detail=error.detail,
            next="without a list nothing is concluded and nothing is sent; trying again",
        )
        return {}
    finally:
        await ctx.ledger.jobs.finish(turn, streak.memory)
    return {"lost_leases": lost, "unresolved": len(doubtful), "settled": settled}


@dataclass(slots=True)
class _Streak:
    """Since when the list has been read again and again without a long silence.

    An API that stood still may go on with what it had taken in before: a retry call that timed out, for one.
    So the grace counts from when the API answers, not from when the call was given up.
    """

    since: datetime | None = None
    read_at: datetime | None = None

    @classmethod
    def of(cls, memory: dict[str, Any]) -> _Streak:
        since, read_at = memory.get("listed_since"), memory.get("listed_at")
        return cls(from_ms(since), from_ms(read_at)) if since and read_at else cls()

    @property
    def memory(self) -> dict[str, Any]:
        """What the next turn should remember."""
        if not self.since or not self.read_at:
            return {}
        return {"listed_since": to_ms(self.since), "listed_at": to_ms(self.read_at)}

    def read(
        self, began_at: datetime, ended_at: datetime, rested_until: datetime, options: Options
    ) -> timedelta:
        """Note that the list was read; return how long the streak is.

        Args:
            began_at: of this reading.
            ended_at: of this reading.
            rested_until: the end of the last rest that the API asked for: who asks does not stand still.
            options: the grace, of which half may pass without a word from the API.
        """
        silence = max(options.resolve_grace / 2, options.resolve_interval * 3)
        heard_at = max(self.read_at, min(rested_until, began_at)) if self.read_at else None
        if self.since is None or heard_at is None or began_at - heard_at > silence:
            self.since = ended_at
        self.read_at = ended_at
        return ended_at - self.since


async def _take_in_lost_leases(ctx: Context) -> int:
    """A lease that ran out belonged to a worker that died or stalled: its call may have left."""
    now = ctx.now()
    changes = [
        transitions.unresolve(
            each,
            reason="worker_lost",
            detail="the worker that held the lease did not report; its call may have been sent",
            now=now,
        )
        for each in await _claim(ctx, State.SUBMITTING)
        if each.intent and each.intent.lease_until <= now
    ]
    outcomes = await asyncio.gather(*(ctx.commit(change) for change in changes))
    return outcomes.count(Outcome.COMMITTED)


async def _claim(ctx: Context, state: State) -> list[Lineage]:
    hide_for = ctx.options.resolve_interval
    claim = await ctx.ledger.claim(state, limit=LIMIT, hide_for=hide_for)
    found = await ctx.ledger.read(claim.members)
    return [each for each in found.values() if isinstance(each, Lineage) and each.state is state]


async def _settle(ctx: Context, turn: Turn, streak: _Streak, doubtful: Sequence[Lineage]) -> int:
    """Conclude what can be concluded and record it; return how many lineages were settled."""
    now = ctx.now()  # before the list is read: what it does not show was not there then
    if ctx.options.lists:
        changes = await _judge(ctx, turn, streak, doubtful, now)
    else:
        reason, detail = "no_listing", "this deployment has no list in which the clone could be found"
        changes = [transitions.hold(each, reason=reason, detail=detail, now=now) for each in doubtful]
    outcomes = await asyncio.gather(
        *(
            ctx.commit(
                change,
                next_at=ctx.first_look_at(change.after) if change.after.state is State.RUNNING else None,
            )
            for change in changes
        )
    )
    return outcomes.count(Outcome.COMMITTED)


async def _judge(
    ctx: Context, turn: Turn, streak: _Streak, doubtful: Sequence[Lineage], now: datetime
) -> list[Change]:
    """Read the list and return what it means for those in doubt; nothing for whom it is too early."""
    listing = await _list(ctx, turn, min(_sent_at(each) for each in doubtful))
    if listing is None:
        return []
    executions, unreadable, complete = listing
    rested_until = (await ctx.ledger.gate.look()).rested_until or _sent_at(doubtful[0])
    answering_for = streak.read(now, ctx.now(), rested_until, ctx.options)
    # Fetched first; then who is in doubt, then who is owned: a clone that was taken meanwhile is not
    # taken again, and one that another call is about to claim is not taken for proof.
    rivals = {each.root: each for each in [*await ctx.ledger.in_doubt(), *doubtful]}
    closings = ctx.calls.closings
    rivals, executions, learned = await ctx.payloads.fill_in(
        ctx.calls,
        rivals,
        executions,
        at_once=ctx.options.submit_concurrency,
        may_go_on=lambda: ctx.calls.closings == closings and not ctx.stopping(),
    )
    owners = await ctx.ledger.owners([each.uuid for each in executions])
    # Only the answers that brought the listing told how far the API's clock is from ours.
    findings = match([_doubt(ctx, each) for each in rivals.values()], executions, owners)
    waited = {each.root: min(now - each.since, answering_for) for each in doubtful}
    if not learned:  # more is known by the next turn; what is not known in time a person decides
        patience = ctx.options.resolve_grace * PATIENCE
        waited |= {each.root: _NOT_YET for each in doubtful if now - each.since < patience}
    drafts = [
        _conclude(
            ctx, rivals[root], findings[root], now, waited=time, unreadable=unreadable, complete=complete
        )
        for root, time in waited.items()
    ]
    return [change for change in drafts if change]


def _doubt(ctx: Context, lineage: Lineage) -> Doubt:
    skew, sent_at = ctx.calls.skew, _sent_at(lineage)
    ended_by = lineage.intent.lease_until if lineage.intent else sent_at
    latest = ended_by + ctx.options.resolve_grace + CLOCK_MARGIN
    return Doubt(lineage, sent_at - CLOCK_MARGIN + skew, latest + skew)


def _sent_at(lineage: Lineage) -> datetime:
    return lineage.intent.at if lineage.intent else lineage.since


async def _list(ctx: Context, turn: Turn, sent_at: datetime) -> tuple[list[Execution], int, bool] | None:
    """Return the executions of every status since a while before `sent_at`.

    With them, how many were unreadable, and whether the list was read that far back or to its end: half a
    list must not prove that a clone does not exist. None when the reading was cut short from our side.
    """
    executions: dict[str, Execution] = {}
    unreadable = 0
    since = sent_at - LOOK_BEHIND
    async for page in ctx.calls.pages(status=None, since=since + ctx.calls.skew):
        executions |= {each.uuid: each for each in page.executions}
        unreadable += page.unreadable
        oldest = page.oldest_created_at
        past = oldest is not None and oldest - ctx.calls.skew < since
        if page.last or (ctx.options.newest_first and past):
            break
        if ctx.stopping() or not await ctx.ledger.jobs.extend(turn):
            return None
    else:
        return list(executions.values()), unreadable, False
    return list(executions.values()), unreadable, True


def _conclude(
    ctx: Context,
    lineage: Lineage,
    finding: Finding,
    now: datetime,
    *,
    waited: timedelta,
    unreadable: int,
    complete: bool,
) -> Change | None:
    """Return what a finding means; None while it is too early to tell."""
    found = finding.clarity in (Clarity.FOUND, Clarity.LIKELY)
    at_once = finding.clarity is Clarity.FOUND and complete
    if waited < ctx.options.resolve_grace and not at_once:
        return None
    if found and finding.candidate:
        return transitions.accept(lineage, finding.candidate, now=now, evidence=finding.evidence)
    if finding.clarity is Clarity.UNCLEAR:
        return _choose(ctx, lineage, finding, now)
    if not complete:
        return transitions.hold(lineage, reason="listing_incomplete", detail=_NOT_TO_THE_END, now=now)
    if unreadable:
        detail = f"{unreadable} executions in the listing could not be read; one may be the clone"
        return transitions.hold(lineage, reason="listing_unreadable", detail=detail, now=now)
    return _not_delivered(ctx, lineage, "no_clone_found", finding.evidence, now)


def _choose(ctx: Context, lineage: Lineage, finding: Finding, now: datetime) -> Change | None:
    """Do what `RESOLVE_UNCLEAR` says about a candidate that may be the clone and may be a stranger."""
    unclear = ctx.options.resolve_unclear
    patience = ctx.options.resolve_grace * PATIENCE
    if unclear == "adopt" and finding.candidate is None and now - lineage.since < patience:
        return None  # another lineage with the same payload may take it first
    if unclear == "adopt" and finding.candidate:
        evidence = f"adopted: {finding.evidence}"
        return transitions.accept(lineage, finding.candidate, now=now, evidence=evidence)
    if unclear == "retry":
        return _not_delivered(ctx, lineage, "unclear_taken_as_no_clone", finding.evidence, now)
    return transitions.hold(lineage, reason="unclear", detail=finding.evidence, now=now)


def _not_delivered(ctx: Context, lineage: Lineage, reason: str, detail: str, now: datetime) -> Change:
    due_at = now + redelivery_delay(lineage.undelivered, ctx.random)
    return transitions.not_delivered(lineage, reason=reason, detail=detail, due_at=due_at, now=now)
