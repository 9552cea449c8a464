"""Find out what became of retry calls whose outcome nobody knows, by looking for the clone in the list."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.domain import transitions
from worker.domain.executions import Execution
from worker.domain.lineage import Lineage, State
from worker.domain.resolving import Clarity, Doubt, Finding, match
from worker.domain.transitions import Change
from worker.engine.context import CLOCK_MARGIN, TURN_LEASE, Context, Options
from worker.kinetic import KineticError
from worker.ledger import Outcome, Turn
from worker.ledger.clock import from_ms, to_ms

JOB = "resolve"
LIMIT = 1000
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

    def read(self, now: datetime, options: Options) -> timedelta:
        """Note that the list was read; return how long the streak is."""
        silence = max(options.resolve_grace / 2, options.resolve_interval * 3)
        if self.since is None or self.read_at is None or now - self.read_at > silence:
            self.since = now
        self.read_at = now
        return now - self.since


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
    now = ctx.now()  # before the list is read: what it does not show was not there then
    if not ctx.options.lists:
        reason, detail = "no_listing", "this deployment has no list in which the clone could be found"
        changes = [transitions.hold(each, reason=reason, detail=detail, now=now) for each in doubtful]
    else:
        listing = await _list(ctx, turn, min(_sent_at(each) for each in doubtful))
        if listing is None:
            return 0
        executions, unreadable = listing
        answering_for = streak.read(ctx.now(), ctx.options)
        # Fetched first; then who is in doubt, then who is owned: a clone that was taken meanwhile is not
        # taken again, and one that another call is about to claim is not taken for proof.
        rivals = {each.root: each for each in [*await ctx.ledger.in_doubt(), *doubtful]}
        rivals, executions = await ctx.payloads.fill_in(ctx.calls, rivals, executions)
        owners = await ctx.ledger.owners([each.uuid for each in executions])
        # Only the answer that brought the listing told how far the API's clock is from ours.
        doubts = [Doubt(each, _sent_at(each) + ctx.calls.skew - CLOCK_MARGIN) for each in rivals.values()]
        findings = match(doubts, executions, owners)
        waited = {each.root: min(now - each.since, answering_for) for each in doubtful}
        drafts = [
            _conclude(ctx, rivals[root], findings[root], now, waited=waited[root], unreadable=unreadable)
            for root in waited
        ]
        changes = [change for change in drafts if change]
    watched_from = now + ctx.options.watch_interval
    outcomes = await asyncio.gather(
        *(
            ctx.commit(change, next_at=watched_from if change.after.state is State.RUNNING else None)
            for change in changes
        )
    )
    return outcomes.count(Outcome.COMMITTED)


def _sent_at(lineage: Lineage) -> datetime:
    return lineage.intent.at if lineage.intent else lineage.since


async def _list(ctx: Context, turn: Turn, sent_at: datetime) -> tuple[list[Execution], int] | None:
    """Return the executions of every status since a while before `sent_at`, and how many were unreadable.

    None when the reading was cut short: half a list must not prove that a clone does not exist.
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
        return None  # the walk was cut at its bound
    return list(executions.values()), unreadable


def _conclude(
    ctx: Context, lineage: Lineage, finding: Finding, now: datetime, *, waited: timedelta, unreadable: int
) -> Change | None:
    """Return what a finding means; None while it is too early to tell."""
    if finding.clarity is Clarity.FOUND and finding.candidate:
        return transitions.accept(lineage, finding.candidate, now=now, evidence=finding.evidence)
    if waited < ctx.options.resolve_grace:
        return None
    if finding.clarity is Clarity.LIKELY and finding.candidate:
        return transitions.accept(lineage, finding.candidate, now=now, evidence=finding.evidence)
    if finding.clarity is Clarity.NOTHING and not unreadable:
        return _not_delivered(lineage, "no_clone_found", finding.evidence, now)
    if finding.clarity is Clarity.NOTHING:
        detail = f"{unreadable} executions in the listing could not be read; one may be the clone"
        return transitions.hold(lineage, reason="listing_unreadable", detail=detail, now=now)
    return _choose(ctx.options.resolve_unclear, lineage, finding, now)


def _choose(unclear: str, lineage: Lineage, finding: Finding, now: datetime) -> Change | None:
    """Do what `RESOLVE_UNCLEAR` says about a candidate that may be the clone and may be a stranger."""
    if unclear == "adopt":
        if finding.candidate is None:
            return None  # another lineage with the same payload takes it first
        evidence = f"adopted: {finding.evidence}"
        return transitions.accept(lineage, finding.candidate, now=now, evidence=evidence)
    if unclear == "retry":
        return _not_delivered(lineage, "unclear_taken_as_no_clone", finding.evidence, now)
    return transitions.hold(lineage, reason="unclear", detail=finding.evidence, now=now)


def _not_delivered(lineage: Lineage, reason: str, detail: str, now: datetime) -> Change:
    return transitions.not_delivered(lineage, reason=reason, detail=detail, due_at=now, now=now)
