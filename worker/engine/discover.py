"""Notice failed executions and begin a lineage for each, once.

Most polls read the head of the list; every `sweep` the whole look-back is read. Nothing depends on a
cursor: what one poll misses the next one finds, what is seen twice costs one look-up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from worker.domain import joining, transitions
from worker.domain.executions import Execution, Status
from worker.domain.health import Ended, Run
from worker.domain.policy import History, RetryAt, decide, ends_at
from worker.domain.transitions import Change, Hold
from worker.engine.context import CLOCK_MARGIN, TURN_LEASE, Context
from worker.engine.desk import Workflow
from worker.engine.joining import Joins, look, may_join, record
from worker.engine.suspects import Suspects
from worker.kinetic import KineticError, Page
from worker.ledger import Outcome, Turn
from worker.ledger.clock import from_ms, to_ms, whole_ms

JOB = "discover"
FARTHEST_HEAD = timedelta(hours=1)
"""A head poll reads back over the runs that may just have failed, but no farther than this beyond the last
complete reading: sweeps do the rest."""
UNDATED_PAGES = 3
"""Pages without news after which a head poll of a list without dates stops."""

QUICK_PAGES, QUICK_S = 10, 0.25
"""Pages of a sweep that are looked up at once, at most, and how long it gathers them."""

_Failure = tuple[Execution, datetime, bool]
"""A failed execution, when it failed, and whether the API says so."""


@dataclass(slots=True)
class _Walk:
    """One reading of the list: what it set out to do, and what it has met so far.

    Attributes:
        began_at: when it began.
        reach: how far back a head poll reads at least, by creation.
        horizon: failures from before are none of ours.
        created_horizon: how far back a sweep reads, by creation: a run may have gone on for long.
    """

    started_at: datetime
    began_at: datetime
    sweep: bool
    baseline: bool
    reach: datetime
    horizon: datetime
    created_horizon: datetime
    longest_run: timedelta
    begun: int = 0
    joined: int = 0
    waiting: int = 0
    left_alone: int = 0
    unreadable: int = 0
    pages: int = 0
    undated_pages: int = 0
    reread: datetime | None = None

    def wait_for(self, failure: Execution, failed_at: datetime) -> None:
        """Meet a failure again that cannot be dealt with now."""
        self.waiting += 1
        self.reread = min(self.reread or failed_at, failure.created_at or self.horizon)


async def discover(ctx: Context) -> dict[str, int] | None:
    """Read the list once; return what was done in numbers, None when nothing of it could be read."""
    if not ctx.options.lists:
        return None
    gap = ctx.options.discovery_interval / 2
    turn = await ctx.ledger.jobs.begin(JOB, lease=TURN_LEASE, gap=gap, calls_api=True)
    if isinstance(turn, str):
        return None
    walk = _plan(ctx, turn, await ctx.ledger.begin(ctx.waited()))
    memory = None
    try:
        async with ctx.ledger.jobs.keeping(turn):
            if await _read(ctx, turn, walk):
                memory = _remember(ctx, turn, walk)
    except KineticError as error:
        ctx.log.warning(
            "listing_failed",
            reason=error.reason,
            detail=error.detail,
            http_status=error.http_status,
            next=f"trying again in {ctx.options.discovery_interval}; nothing is lost",
        )
    finally:
        await ctx.ledger.jobs.finish(turn, memory)
    if not walk.pages:
        return None  # no tick: whoever watches over them wants to know when the list was read last
    counts = {
        "pages": walk.pages,
        "discovered": walk.begun,
        "joined": walk.joined,
        "waiting": walk.waiting,
        "left_alone": walk.left_alone,
        "unreadable": walk.unreadable,
    }
    if walk.sweep or walk.begun or walk.joined or walk.unreadable:
        ctx.log.info("list_read", sweep=walk.sweep, complete=memory is not None, **counts)
    return counts


def begin_lineage(
    ctx: Context,
    execution: Execution,
    *,
    failed_at: datetime,
    seen_at: datetime,
    source: str,
    dated: bool,
    hold: Hold | None = None,
) -> Change:
    """Return the change that begins a lineage for a failed execution, decided by its policy unless held.

    What is known of its workflow is taken from the desk, so it must have been looked up there.
    """
    policy, name = ctx.policies.for_workflow(execution.workflow_uuid, execution.workflow_name)
    climate = ctx.desk.climate(Workflow.of(execution), failed_at)
    decision = hold or decide(History(0, failed_at, failed_at), policy, seen_at, ctx.random, climate)
    late = seen_at - failed_at > 2 * ctx.options.discovery_interval + CLOCK_MARGIN
    if isinstance(decision, RetryAt) and late:
        decision = _after_a_look(ctx, execution, decision, failed_at, seen_at)
    return transitions.discover(
        execution,
        failed_at=failed_at,
        seen_at=seen_at,
        source=source,
        dated=dated,
        decision=decision,
        policy=policy,
        policy_name=name,
    )


def _after_a_look(
    ctx: Context, execution: Execution, decision: RetryAt, failed_at: datetime, seen_at: datetime
) -> RetryAt:
    """Put off the attempt of a failure that was noticed late until the survey has read the list once.

    Nobody watched meanwhile: someone may have retried it by hand long ago.
    """
    policy, _ = ctx.policies.for_workflow(execution.workflow_uuid, execution.workflow_name)
    due_at = seen_at + ctx.options.discovery_interval + CLOCK_MARGIN
    due_at = min(due_at, ends_at(History(0, failed_at, failed_at), policy))
    if decision.due_at >= due_at or not may_join(ctx, execution):
        return decision
    why = "noticed late: whether someone else retried it is looked for first"
    return replace(decision, due_at=due_at, delay=due_at - seen_at, why=why)


def _plan(ctx: Context, turn: Turn, started_at: datetime) -> _Walk:
    """Decide how far to read. A sweep is due by the time of the last complete one, not by a message."""
    now, options, memory = ctx.now(), ctx.options, turn.memory
    swept_at = memory.get("swept_at")
    sweep = swept_at is None or now - from_ms(swept_at) >= options.discovery_sweep
    longest_run = timedelta(milliseconds=memory.get("longest_run_ms", 0))
    looks_back = max(options.discovery_lookback, options.discovery_backfill)
    # Back to the last reading that came to its end, not to the last that began: of one that was cut short
    # (its worker died, the gate closed) the first pages are known now; what lies behind them is not.
    read_at = from_ms(memory["read_at"]) if "read_at" in memory else now
    reach = (
        min(read_at, now - options.discovery_interval) - min(2 * longest_run, FARTHEST_HEAD) - CLOCK_MARGIN
    )
    if "reread" in memory:
        reach = min(reach, from_ms(memory["reread"]) - CLOCK_MARGIN)
    return _Walk(
        started_at=started_at,
        began_at=now,
        sweep=sweep,
        baseline=swept_at is None and not options.discovery_backfill,
        reach=reach,
        horizon=now - looks_back,
        created_horizon=now - looks_back - options.watch_timeout,
        longest_run=timedelta(0) if sweep else longest_run,
    )


def _remember(ctx: Context, turn: Turn, walk: _Walk) -> dict[str, Any]:
    memory: dict[str, Any] = {"longest_run_ms": whole_ms(walk.longest_run), "read_at": to_ms(walk.began_at)}
    memory["swept_at"] = to_ms(ctx.now()) if walk.sweep else turn.memory.get("swept_at")
    if walk.reread:
        memory["reread"] = to_ms(walk.reread)
    return memory


async def _read(ctx: Context, turn: Turn, walk: _Walk) -> bool:
    """Walk the pages; return whether the walk went as far as it meant to."""
    async for pages in _together(ctx, walk):
        unknown, goes_on = await _unknown(ctx, turn, walk, pages)
        news = await _take_in(ctx, walk, unknown) if unknown else 0
        if pages[-1].last or _far_enough(ctx, walk, pages[-1], news):
            return True
        if unknown:  # that may have taken long
            goes_on = await ctx.ledger.jobs.extend(turn)
        if ctx.stopping() or not goes_on:
            return False
    return True


async def _together(ctx: Context, walk: _Walk) -> AsyncIterator[list[Page]]:
    """Yield the pages, those together that are looked up together: a few that come quickly in a sweep.

    Raises:
        KineticError: when all that was read before has been yielded. It counts, whatever became of the next
            page: a list that always breaks at the same place would else never be known up to there.
    """
    pages: list[Page] = []
    began_s = time.monotonic()
    try:
        async for page in ctx.calls.pages(status=Status.FAILED, since=walk.created_horizon + ctx.calls.skew):
            walk.pages += 1
            walk.unreadable += page.unreadable
            pages.append(page)
            # Not for long: every look-up tells as well whether the gate is open and the turn is ours.
            is_quick = len(pages) < QUICK_PAGES and time.monotonic() - began_s < QUICK_S
            if (
                is_quick
                and walk.sweep
                and not (page.last or ctx.stopping() or _far_enough(ctx, walk, page, 0))
            ):
                continue
            yield pages
            pages, began_s = [], time.monotonic()
    except KineticError:
        if pages:
            yield pages
        raise
    if pages:
        yield pages


async def _unknown(ctx: Context, turn: Turn, walk: _Walk, pages: list[Page]) -> tuple[list[Execution], bool]:
    """Return the failures on pages that nobody owns, and whether the turn goes on.

    Known ones cost this one look-up: `keeping` extends the turn by time, not by pages.
    """
    failures = {each.uuid: each for page in pages for each in page.executions}
    for each in failures.values():
        if each.created_at and each.updated_at:
            walk.longest_run = max(walk.longest_run, each.updated_at - each.created_at)
    strangers, goes_on = await ctx.ledger.strangers(turn, list(failures))
    return [failures[uuid] for uuid in strangers], goes_on


async def _take_in(ctx: Context, walk: _Walk, unknown: list[Execution]) -> int:
    """Begin lineages for new failures; return how many were news.

    The order matters. Their pages were fetched first; then we ask whose retry call is in doubt, then who is
    owned. A clone that failed before its 201 was processed is therefore either still in doubt here or
    owned by now, and never becomes a root of its own.
    """
    suspects = await Suspects.of(ctx, unknown)
    owned = await ctx.ledger.owners([each.uuid for each in unknown])
    joins = await look(ctx, [each for each in unknown if each.uuid not in owned])
    seen_at = ctx.now()
    news = 0
    undated_before_us: list[str] = []
    begun: list[_Failure] = []
    for each in unknown:
        if each.uuid in owned:
            continue
        failed_at, dated = _failed_at(each, seen_at, ctx.calls.skew)
        if dated and _too_old(ctx, walk, failed_at):
            walk.left_alone += 1
            continue
        if not dated and walk.baseline:
            undated_before_us.append(each.uuid)
            continue
        news += 1
        if suspects.still_in_doubt(each):
            walk.wait_for(each, failed_at)
            continue
        begun.append((each, failed_at, dated))
    begun = await _join(ctx, walk, joins, begun)
    begun = _one_at_a_time(ctx, walk, begun)
    changes = await _begin(ctx, begun, seen_at, suspects)
    outcomes = await asyncio.gather(*(ctx.commit(change) for change in changes))
    walk.begun += outcomes.count(Outcome.COMMITTED)
    # A breaker that these failures open holds them up before the first of them is cloned.
    await ctx.desk.look((Workflow.of(change.after) for change in changes), fresh=True)
    await ctx.ledger.leave_alone(undated_before_us)
    walk.left_alone += len(undated_before_us)
    return news


async def _join(ctx: Context, walk: _Walk, joins: Joins, failures: list[_Failure]) -> list[_Failure]:
    """Let lineages go on with failures of retries that others made; return the failures that are none."""
    changes = [(each, joins.changes[each[0].uuid]) for each in failures if each[0].uuid in joins.changes]
    outcomes = await asyncio.gather(*(record(ctx, change) for _, change in changes))
    walk.joined += outcomes.count(Outcome.COMMITTED)
    lost = [
        each for (each, _), outcome in zip(changes, outcomes, strict=True) if outcome is not Outcome.COMMITTED
    ]
    for each, failed_at, _ in (*lost, *(each for each in failures if each[0].uuid in joins.waiting)):
        walk.wait_for(each, failed_at)
    return [each for each in failures if each[0].uuid not in (*joins.changes, *joins.waiting)]


def _one_at_a_time(ctx: Context, walk: _Walk, failures: list[_Failure]) -> list[_Failure]:
    """Return those that begin lineages now; what may be a retry of one of them is judged after it."""
    followers = joining.followers(each for each, _, _ in failures if may_join(ctx, each))
    for each, failed_at, _ in failures:
        if each.uuid in followers:
            walk.wait_for(each, failed_at)
    return [failure for failure in failures if failure[0].uuid not in followers]


async def _begin(
    ctx: Context, failures: list[_Failure], seen_at: datetime, suspects: Suspects
) -> list[Change]:
    """Return the changes that begin lineages: each decided in the knowledge of all of them."""
    await ctx.desk.look(Workflow.of(each) for each, _, _ in failures)
    for each, failed_at, _ in failures:
        ctx.desk.expect(Workflow.of(each), Run(failed_at, Ended.FAILED))
    return [
        begin_lineage(
            ctx,
            each,
            failed_at=failed_at,
            seen_at=seen_at,
            source="list",
            dated=dated,
            hold=suspects.hold(each),
        )
        for each, failed_at, dated in failures
    ]


def _far_enough(ctx: Context, walk: _Walk, page: Page, news: int) -> bool:
    """Return whether what follows in the list is of no interest to this walk."""
    if not ctx.options.newest_first:
        return False
    oldest = page.oldest_created_at - ctx.calls.skew if page.oldest_created_at else None
    if oldest and oldest < walk.created_horizon:
        return True
    if walk.sweep or news:
        return False
    if oldest:
        return oldest < walk.reach
    walk.undated_pages += 1
    return walk.undated_pages >= UNDATED_PAGES


def _failed_at(execution: Execution, seen_at: datetime, skew: timedelta) -> tuple[datetime, bool]:
    """Return when the execution failed by our clock, and whether the API gave it a date."""
    stamp = execution.updated_at or execution.created_at
    return (min(stamp - skew, seen_at), True) if stamp else (seen_at, False)


def _too_old(ctx: Context, walk: _Walk, failed_at: datetime) -> bool:
    """Return whether a failure is none of ours: from before the first start, or beyond the look-back."""
    before_us = failed_at < walk.started_at - ctx.options.discovery_backfill - CLOCK_MARGIN
    return before_us or failed_at < walk.horizon
