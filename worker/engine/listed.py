"""Look at many running clones at once by reading the list, where a call for each would cost more.

The list is asked for what has ended, first for failures, of which there are few, then for what completed:
both newest first, and no farther back than the clones that are due for a look. Every running clone that it
shows goes on from there, due or not. One that neither shows, and that is younger than what was read, is taken
for running and looked at again later. Absence is never taken for more than that: a clone that runs for much
longer than others of its workflow is asked for by its name, and only the answer to that can say that it does
not exist. (Where the list cannot be asked for one status it is read as a whole, and what it does not show is
asked for at once.)

One worker reads at a time; the others leave due looks to it. When it reads again depends on what the list
brought: see `worker.domain.watching`. While it fails, or shows few of our clones, each is asked for alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from statistics import median_low
from typing import Any

from worker.domain.executions import Status
from worker.domain.lineage import Lineage, State
from worker.domain.watching import (
    LONGEST_LIST_PAUSE,
    is_overdue,
    list_is_cheaper,
    next_list_in,
    reads_on,
)
from worker.engine.clones import all_of, next_look_at, take_in, take_in_ended, tells_enough
from worker.engine.context import CLOCK_MARGIN, TURN_LEASE, Context
from worker.engine.desk import Workflow
from worker.kinetic import KineticError, Page
from worker.ledger import Turn
from worker.ledger.clock import from_ms, to_ms

JOB = "looks"
MOST_DUE, CLAIMED_AT_ONCE = 10_000, 1000
"""Looks that one reading is for. It also shows what others had ended; their next look is in their turn."""
LONGEST_READING = 3
"""Batches for which pages are asked for: one that is cut short has to begin at the head again."""
OFF_FOR = timedelta(minutes=1)
"""How long a list that failed, or spared less than half of the looks, is not read for them."""
_ENDED, _ANY = (Status.FAILED, Status.COMPLETED), (None,)


class _Plan(Enum):
    """What is done about due looks now."""

    READ = auto()
    WAIT = auto()
    ASK = auto()


@dataclass(slots=True)
class _Reading:
    """One reading of the list: what it is for, and what it has met so far.

    Attributes:
        due: by their newest run: the lineages that it is for, read before it.
        usual: pages of the last reading, if that was lately.
        told: those of them that the list showed, and told enough of.
        curt: those of which it showed a failure and not what it is judged by.
        unseen: those that it went past without showing them.
        times: when lineages are looked at next, by root.
        given_up: whether it brought too little, or had to end for another reason.
    """

    began_at: datetime
    due: dict[str, Lineage]
    usual: int
    pages: int = 0
    ended: int = 0
    told: set[str] = field(default_factory=set)
    curt: set[str] = field(default_factory=set)
    unseen: set[str] = field(default_factory=set)
    times: dict[str, datetime] = field(default_factory=dict)
    given_up: bool = False


async def read_list(ctx: Context) -> tuple[list[Lineage], int] | None:
    """Read the list if that is cheaper than the looks that are due; None when they are made one by one.

    Returns:
        the lineages whose clone has to be asked for by its name now, and how many clones were seen to have
        ended. Nothing when another worker reads the list, or when it is too early to read it again.
    """
    options = ctx.options
    if not (options.lists and options.newest_first):
        return None
    due = await ctx.ledger.count_due(State.RUNNING)
    turn = due and await ctx.ledger.jobs.begin(JOB, lease=TURN_LEASE, gap=timedelta(0), calls_api=True)
    if not isinstance(turn, Turn):
        return [], 0
    memory = None
    closings = ctx.calls.closings
    try:
        plan = _plan(ctx, turn.memory, due)
        if plan is _Plan.WAIT:
            return [], 0
        if plan is _Plan.ASK:
            return None
        async with ctx.ledger.jobs.keeping(turn):
            reading = await _begin(ctx, _usual(ctx, turn.memory))
            await _read(ctx, reading)
        asked = _who_is_asked(ctx, reading)
        if ctx.calls.closings == closings:  # else it was cut short: that says nothing of the list
            memory = _remember(ctx, turn.memory, reading, asked)
        await _put_off(ctx, reading, memory or {})
        return asked, reading.ended
    finally:
        await ctx.ledger.jobs.finish(turn, memory)


def _plan(ctx: Context, memory: dict[str, Any], due: int) -> _Plan:
    """Decide what is done about due looks, by what whoever read last has found."""
    now = ctx.now()
    if _lies_ahead(memory.get("off_until"), now):
        return _Plan.ASK
    if _lies_ahead(memory.get("again_at"), now):
        return _Plan.WAIT
    cheaper = list_is_cheaper(due, ctx.options.many_looks, _usual(ctx, memory))
    return _Plan.READ if cheaper else _Plan.ASK


def _usual(ctx: Context, memory: dict[str, Any]) -> int:
    """Return how many pages were read the last time, if that was lately."""
    lately = _lies_ahead(memory.get("read_at"), ctx.now() - LONGEST_LIST_PAUSE)
    return int(memory.get("pages", 0)) if lately else 0


def _lies_ahead(moment_ms: int | None, now: datetime) -> bool:
    """Whether a remembered moment is to come; not if that was before the server's clock was put back."""
    return moment_ms is not None and now < from_ms(moment_ms) <= now + LONGEST_LIST_PAUSE


async def _begin(ctx: Context, usual: int) -> _Reading:
    """Claim the looks, and read the records before the list: in place, it may show what was before."""
    options = ctx.options
    hide_for = options.batch_budget * (LONGEST_READING + 1) + options.request_bound
    due: dict[str, Lineage] = {}
    remaining = 1
    while remaining and len(due) < MOST_DUE:
        claim = await ctx.ledger.claim(State.RUNNING, limit=CLAIMED_AT_ONCE, hide_for=hide_for)
        found, remaining = await ctx.ledger.read(claim.members), claim.remaining
        due |= {
            each.newest.clone: each
            for each in found.values()
            if isinstance(each, Lineage) and each.state is State.RUNNING
        }
    reading = _Reading(ctx.now(), due, usual)
    await ctx.desk.look(map(Workflow.of, due.values()))
    return reading


async def _read(ctx: Context, reading: _Reading) -> None:
    """Read the list of each status; note whom all of them passed without showing it."""
    passed: list[set[str]] = []
    statuses = _ENDED if ctx.options.filters else _ANY
    try:
        for status in statuses:
            if reading.given_up:
                break
            passed.append(await _walk(ctx, reading, status))
    except KineticError as error:
        ctx.log.info(
            "list_not_read_for_looks",
            reason=error.reason,
            detail=error.detail,
            next="clones are asked for one by one while calls are allowed",
        )
    if len(passed) == len(statuses):
        reading.unseen = set.intersection(*passed) - reading.told - reading.curt


async def _walk(ctx: Context, reading: _Reading, status: Status | None) -> set[str]:
    """Read pages as far back as the oldest due clone; return which due clones are younger than the last one.

    A list that shows nothing at all proves nothing: the server may call that status something else. That it
    shows no failure is believed, as it is when failures are noticed: a healthy platform has none.
    """
    left = sorted(
        (_made_after(each), clone) for clone, each in reading.due.items() if not each.newest.in_place
    )
    passed: set[str] = set()
    shown = int(status is Status.FAILED)
    ends_at = reading.began_at + ctx.options.batch_budget * LONGEST_READING
    reach = left[0][0] if left else reading.began_at
    async for page in ctx.calls.pages(status=status, since=reach + ctx.calls.skew):
        reading.pages += 1
        shown += len(page.executions)
        await _take_in(ctx, reading, page)
        oldest = page.oldest_created_at and page.oldest_created_at - ctx.calls.skew
        while left and shown and (page.last or (oldest and left[-1][0] > oldest)):
            passed.add(left.pop()[1])
        if page.last or not left or not page.received:
            break
        spared = len(passed | reading.told)
        worth_it = reads_on(reading.pages, spared, len(reading.due), reading.usual)
        if not worth_it or ctx.stopping() or ctx.now() > ends_at:
            reading.given_up = True
            break
    return passed


def _made_after(lineage: Lineage) -> datetime:
    """Return a moment, by our clock, before which the lineage's newest run was not made."""
    return lineage.newest.submitted_at - CLOCK_MARGIN


async def _take_in(ctx: Context, reading: _Reading, page: Page) -> None:
    """Let lineages go on with what a page shows of their clones."""
    due = {
        each.uuid: each
        for each in page.executions
        if each.uuid in reading.due and each.uuid not in reading.told
    }
    reading.curt |= {uuid for uuid, each in due.items() if not tells_enough(each)}
    due = {uuid: each for uuid, each in due.items() if uuid not in reading.curt}
    reading.told |= set(due)
    looks = {uuid: reading.due[uuid] for uuid in due}
    next_looks = await all_of(take_in(ctx, lineage, due[uuid]) for uuid, lineage in looks.items())
    for lineage, next_at in zip(looks.values(), next_looks, strict=True):
        if next_at:
            reading.times[lineage.root] = next_at
        else:
            reading.ended += 1
    others = [each for each in page.executions if each.uuid not in reading.due]
    reading.ended += await take_in_ended(ctx, others)


def _who_is_asked(ctx: Context, reading: _Reading) -> list[Lineage]:
    """Return the lineages whose clone has to be asked for by its name; put the others off."""
    now, asked = ctx.now(), []
    for clone, lineage in reading.due.items():
        if clone in reading.told:
            continue
        lengths = ctx.desk.lengths(Workflow.of(lineage))
        age = now - lineage.newest.accepted_at
        running = clone in reading.unseen and ctx.options.filters and age <= ctx.options.watch_timeout
        if running and not lineage.missing_since and not is_overdue(age, lengths):
            reading.times[lineage.root] = next_look_at(ctx, lineage)
        else:
            asked.append(lineage)
    return asked


async def _put_off(ctx: Context, reading: _Reading, memory: dict[str, Any]) -> None:
    """Set when those that run are looked at next: not before the list is read again, if it will be."""
    again_at = from_ms(memory["again_at"]) if "again_at" in memory else reading.began_at
    times = {root: max(next_at, again_at) for root, next_at in reading.times.items()}
    await ctx.ledger.reschedule(State.RUNNING, times)


def _remember(
    ctx: Context, memory: dict[str, Any], reading: _Reading, asked: list[Lineage]
) -> dict[str, Any]:
    """Return what whoever looks next has to know: when the list is read again, or that it is not."""
    now = {"pages": reading.pages, "read_at": to_ms(reading.began_at)}
    if 2 * len(asked) > len(reading.due):
        return now | {"off_until": to_ms(ctx.now() + OFF_FOR)}
    if not reading.due:
        return now
    ages = [reading.began_at - each.newest.accepted_at for each in reading.due.values()]
    since_last = max(ages)
    if "read_at" in memory:
        since_last = min(since_last, max(reading.began_at - from_ms(memory["read_at"]), timedelta(0)))
    pause = next_list_in(
        since_last, reading.pages, reading.ended, median_low(ages), ctx.options.watch_interval
    )
    return now | {"again_at": to_ms(reading.began_at + pause)}
