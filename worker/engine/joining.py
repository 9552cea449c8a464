"""Recognise the retry that someone else made of a failed run, and let its lineage go on with it.

Two readers of the list meet such runs: `survey` sees them alive or completed, `discover` (and `watch`, for
those watched by name) when they have failed. Both ask here. Nothing is asked just before a retry call: that
would double the calls. So a retry that someone makes within one interval before ours may still be doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.domain import joining, transitions
from worker.domain.executions import Execution, Status
from worker.domain.joining import Judgement, Part, Reading, key_of
from worker.domain.lineage import Lineage, State
from worker.domain.transitions import Change
from worker.engine.context import CLOCK_MARGIN, Context
from worker.engine.suspects import Suspects
from worker.kinetic import KineticError
from worker.ledger import Outcome

MOST_PAGES = 20
"""Read at most to learn whether a key is distinctive. One reading serves all that are judged together."""
MAY_BE_RETRIED = "may_be_retried"
_JUST_AFTER = timedelta(seconds=1)
PATIENCE = timedelta(minutes=10)
"""How long a failure waits for a list that cannot be read; then it begins a lineage of its own."""


@dataclass(slots=True)
class Joins:
    """What is known of some runs that nobody owns.

    Attributes:
        changes: of those that are retries which someone else made: what that means for their lineages.
        waiting: those that may be one and cannot be judged now; they are met again.
    """

    changes: dict[str, Change] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Candidate:
    run: Execution
    lineage: Lineage
    part: Part


async def join_in(ctx: Context, runs: Sequence[Execution]) -> int:
    """Let lineages go on with what others made for them; return how many did."""
    joins = await look(ctx, runs)
    outcomes = await asyncio.gather(*(record(ctx, change) for change in joins.changes.values()))
    return outcomes.count(Outcome.COMMITTED)


async def record(ctx: Context, change: Change) -> Outcome:
    """Store what `look` found. A run that has failed already is looked at, like any clone, at once."""
    after = change.after
    if after.state is not State.RUNNING:
        return await ctx.commit(change)
    return await ctx.commit(change, next_at=ctx.first_look_at(after) if after.newest.alive else ctx.now())


async def look(ctx: Context, runs: Sequence[Execution]) -> Joins:
    """Return which of the runs are retries that someone else made.

    The runs were fetched first; here we read the lineages, then who is in doubt, then who is owned. A clone
    of ours among them is therefore owned by now, or its call is still in doubt, or its lineage has moved on
    from the version that we read and refuses the change.
    """
    joins = Joins()
    candidates = await _candidates(ctx, runs)
    first: dict[str, _Candidate] = {}
    for each in sorted(candidates, key=lambda each: (str(each.run.created_at), each.run.uuid)):
        if first.setdefault(each.lineage.root, each) is not each:
            joins.waiting.add(each.run.uuid)  # when the first is taken in, the lineage is another one
    if not first:
        return joins
    try:
        reading = await _read(ctx, min(each.lineage.root_failed_at for each in first.values()))
    except KineticError as error:
        ctx.log.info(
            "listing_failed",
            reason=error.reason,
            detail=error.detail,
            http_status=error.http_status,
            next="whether someone else retried a failed run is not known yet; trying again",
        )
        lately = ctx.now() - PATIENCE
        joins.waiting |= {each.run.uuid for each in candidates if _ended_at(ctx, each.run) > lately}
        return joins
    for each in first.values():
        settles_at = _settles_at(ctx, each.run)
        judged = joining.judge(
            each.lineage, each.run, reading, ctx.calls.skew, has_been_there=ctx.now() >= settles_at
        )
        if judged.taken:
            joins.changes[each.run.uuid] = _change(ctx, each, judged)
        elif judged.too_early:
            joins.waiting.add(each.run.uuid)
            await _let_wait(ctx, each.lineage, each.run, settles_at)
        else:
            _leave_alone(ctx, each, judged)
    return joins


def may_join(ctx: Context, run: Execution) -> bool:
    """Whether a run's workflow takes retries of others into account, as far as is known of its key."""
    options = ctx.options
    if not (run.fingerprint and options.surveys):
        return False
    policy, _ = ctx.policies.for_workflow(run.workflow_uuid, run.workflow_name)
    return policy.join and not ctx.shared_keys.knows(key_of(run), ctx.now())


async def _candidates(ctx: Context, runs: Sequence[Execution]) -> list[_Candidate]:
    runs = [each for each in runs if may_join(ctx, each)]
    roots = await ctx.ledger.roots_by_key([key_of(each) for each in runs])
    runs = [each for each in runs if key_of(each) in roots]
    if not runs:
        return []
    lineages = await ctx.ledger.read(list(set(roots.values())))
    suspects = await Suspects.of(ctx, runs)
    owned = await ctx.ledger.owners([each.uuid for each in runs])
    found: list[_Candidate] = []
    for run in runs:
        lineage = lineages.get(roots[key_of(run)])
        if run.uuid in owned or not isinstance(lineage, Lineage):
            continue
        if suspects.still_in_doubt(run) or suspects.hold(run):
            continue
        part = joining.part_of(lineage, run, ctx.calls.skew, ctx.options.discovery_lookback)
        if part:
            found.append(_Candidate(run, lineage, part))
    return found


async def _read(ctx: Context, failed_at: datetime) -> Reading:
    """Read the list back to long before the first of the failures, or as far as may be read at once."""
    reach = failed_at + ctx.calls.skew - joining.LOOK_BEHIND
    executions: dict[str, Execution] = {}
    unreadable = pages = 0
    since: datetime | None = ctx.now() + ctx.calls.skew
    async for page in ctx.calls.pages(status=None, since=reach):
        pages += 1
        executions |= {each.uuid: each for each in page.executions}
        unreadable += page.unreadable
        since = page.oldest_created_at or since
        if page.last:
            since = None
        if since is None or since < reach or pages >= MOST_PAGES or ctx.stopping():
            break
    return Reading(list(executions.values()), since, unreadable)


def _change(ctx: Context, found: _Candidate, judged: Judgement) -> Change:
    """Return what a retry that someone else made means for the lineage."""
    lineage, run, now = found.lineage, found.run, ctx.now()
    made_at = run.created_at - ctx.calls.skew if run.created_at else now
    if found.part is Part.ASIDE:
        return transitions.claim_failed(
            lineage,
            run,
            made_at=made_at,
            failed_at=_ended_at(ctx, run),
            now=now,
            evidence=judged.evidence,
        )
    if _is_ours_after_all(ctx, lineage, run):
        return transitions.accept(lineage, run, now=now, evidence=judged.evidence)
    joined = transitions.join(lineage, run, made_at=made_at, now=now, evidence=judged.evidence)
    if run.status is not Status.COMPLETED:
        return joined
    detail = f"someone else's retry completed: {run.uuid}"
    recovered = transitions.recover(joined.after, now=now, ended_at=_ended_at(ctx, run), detail=detail)
    return transitions.followed_by(joined, recovered)


def _settles_at(ctx: Context, run: Execution) -> datetime:
    """Return when a run has been there for a grace."""
    made_at = run.created_at - ctx.calls.skew if run.created_at else ctx.now()
    return made_at + ctx.options.resolve_grace


async def _let_wait(ctx: Context, lineage: Lineage, run: Execution, until: datetime) -> None:
    """Put our attempt off until it can be told whether someone else has made it already."""
    if lineage.state is State.SCHEDULED and lineage.due_at and lineage.due_at < until:
        detail = f"{run.uuid} has the same payload and may be someone else's retry; time will tell"
        change = transitions.defer(
            lineage, reason=MAY_BE_RETRIED, detail=detail, now=ctx.now(), due_at=until + _JUST_AFTER
        )
        await ctx.commit(change)


def _is_ours_after_all(ctx: Context, lineage: Lineage, run: Execution) -> bool:
    """Whether our own last call may have made it, although it was concluded that it had made none.

    A call may take effect long after it was given up. As someone else's, its clone would allow one more.
    """
    doubted = lineage.state is State.SCHEDULED and lineage.intent is not None and lineage.intent.doubted
    return doubted and lineage.may_have_made(run, ctx.calls.skew, CLOCK_MARGIN)


def _leave_alone(ctx: Context, found: _Candidate, judged: Judgement) -> None:
    """Say so once, and do not read the list for that key again soon."""
    ctx.shared_keys.note(key_of(found.run), ctx.now())
    ctx.log.info(
        "retry_not_joined",
        root=found.lineage.root,
        execution_uuid=found.run.uuid,
        detail=judged.evidence,
        next="it is taken for an ordinary run; its payload is not looked into again for an hour",
    )


def _ended_at(ctx: Context, run: Execution) -> datetime:
    now = ctx.now()
    return min(run.ended_at(now + ctx.calls.skew) - ctx.calls.skew, now)
