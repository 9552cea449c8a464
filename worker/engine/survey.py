"""Read the newest executions of every status: how workflows do, and how much the platform does.

Failures are noticed by `discover`; a list of failures alone does not tell whether one run of three failed,
or one of three hundred. Without this (`DISCOVERY_SURVEY=false`, or no list) the breaker knows failures and
our own clones only.

The list is in order of creation, and what counts is when runs ended. So most readings go back to the oldest
run that was still under way; every `sweep` one goes back over an hour more, for those that took longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.domain.breaker import Mode
from worker.domain.executions import Execution, Status
from worker.engine.clones import take_in_ended
from worker.engine.context import CLOCK_MARGIN, TURN_LEASE, Context
from worker.engine.desk import Workflow
from worker.engine.joining import join_in
from worker.kinetic import KineticError, Page
from worker.ledger.clock import from_ms, to_ms, whole_ms
from worker.ledger.workflows import REMEMBER_COMPLETED, SURVEY, read_through

JOB = SURVEY
MOST_PAGES = 20
"""Read at most in one turn: of a platform that does more than these hold in half a minute, a sample is
enough."""
MOST_PAGES_OF_A_SWEEP = 100
FARTHEST_HEAD = timedelta(hours=1)
"""A reading that is no sweep goes back over runs that are under way for no longer than this: one that hangs
must not make every reading a long one."""


@dataclass(slots=True)
class _Reading:
    """One reading of the list: what it set out to do, and what it has met so far.

    Attributes:
        began_at: when it began.
        reach: how far back it reads, by creation.
        enough: how far back it has to come to know every completed run that ended since the last reading.
        lately: how far back it has to come to know those that were over within an interval: all of most
            workflows. One whose runs take longer is no reason to judge the others by their failures alone.
        longest_run: how long the longest run took that is known to have ended; a sweep finds out anew.
        alive_since: when the oldest run that is under way was created.
        tells, met, through: whether it came as far as `lately`, as `enough`, and as `reach`.
    """

    began_at: datetime
    sweep: bool
    reach: datetime
    enough: datetime
    lately: datetime
    longest_run: timedelta = timedelta(0)
    alive_since: datetime | None = None
    tells: bool = False
    met: bool = False
    through: bool = False
    pages: int = 0

    @property
    def most_pages(self) -> int:
        """How many pages may be read."""
        return MOST_PAGES_OF_A_SWEEP if self.sweep else MOST_PAGES


async def survey(ctx: Context) -> dict[str, int] | None:
    """Read the head of the list once; return what was seen in numbers, None when it was not our turn."""
    options = ctx.options
    if not (options.lists and options.survey and options.newest_first):
        return None
    turn = await ctx.ledger.jobs.begin(
        JOB, lease=TURN_LEASE, gap=options.discovery_interval / 2, calls_api=True
    )
    if isinstance(turn, str):
        return None
    memory: dict[str, Any] | None = None
    did = {"pages": 0, "completed": 0, "joined": 0}
    try:
        async with ctx.ledger.jobs.keeping(turn):
            reading = _plan(ctx, turn.memory)
            seen = await _read(ctx, reading, did)
            memory = _remember(ctx, turn.memory, reading)
            await ctx.desk.save_lengths()
            did["joined"] = await join_in(ctx, seen)
            await _judge_breakers(ctx)
    except KineticError as error:
        ctx.log.info(
            "survey_failed", reason=error.reason, detail=error.detail, next="trying again; nothing is lost"
        )
    finally:
        await ctx.ledger.jobs.finish(turn, memory)
    return did


def _plan(ctx: Context, memory: dict[str, Any]) -> _Reading:
    """Decide how far to read: over what may have completed since the last reading, and was not taken in.

    At first that is as far as failures are taken in: someone may have retried them long ago.
    """
    now, options = ctx.now(), ctx.options
    looks_back = now - max(options.discovery_lookback, options.discovery_backfill)
    lately = now - 2 * options.discovery_interval - CLOCK_MARGIN
    if "swept_at" not in memory:
        return _Reading(now, True, looks_back, looks_back, lately)
    sweep = now - from_ms(memory["swept_at"]) >= options.discovery_sweep
    longest_run = timedelta(milliseconds=memory["longest_run_ms"])
    alive_since = from_ms(memory["alive_since"]) if "alive_since" in memory else now
    read_at = min(from_ms(memory["read_at"]), now - options.discovery_interval)
    enough = read_at - min(longest_run, FARTHEST_HEAD) - CLOCK_MARGIN
    if sweep:
        reach = min(enough, now - REMEMBER_COMPLETED - longest_run, alive_since - CLOCK_MARGIN)
        return _Reading(now, sweep, max(reach, min(looks_back, enough)), enough, lately)
    reach = min(enough, max(alive_since - CLOCK_MARGIN, now - FARTHEST_HEAD))
    return _Reading(now, sweep, reach, enough, lately, longest_run)


async def _read(ctx: Context, reading: _Reading, did: dict[str, int]) -> list[Execution]:
    """Take in what completed, by when it ended, however long ago it was created; return all that was seen."""
    seen: list[Execution] = []
    async for page in ctx.calls.pages(status=None, since=reading.reach + ctx.calls.skew):
        did["pages"] = reading.pages = reading.pages + 1
        _note(ctx, reading, page)
        seen += page.executions
        completed = [each for each in page.executions if each.status is Status.COMPLETED and each.updated_at]
        ours = await ctx.ledger.owners([each.uuid for each in completed])  # their ends are told by commits
        did["completed"] += await ctx.ledger.workflows.note_completed(
            (each.workflow, each.uuid, _ended_at(ctx, each)) for each in completed if each.uuid not in ours
        )
        await take_in_ended(ctx, page.executions)  # the clones among them need no look of their own
        if reading.through or reading.pages >= reading.most_pages or ctx.stopping():
            break
    return seen


def _note(ctx: Context, reading: _Reading, page: Page) -> None:
    """Learn from a page how long runs take, and how far the reading has come."""
    long_ago = reading.began_at - REMEMBER_COMPLETED
    for each in page.executions:
        if not each.created_at:
            continue
        if not each.status.is_final and each.status is not Status.UNKNOWN:
            created_at = each.created_at - ctx.calls.skew
            reading.alive_since = min(reading.alive_since or created_at, created_at)
        elif each.status.is_final and each.updated_at:
            ended_at, took = _ended_at(ctx, each), each.updated_at - each.created_at
            ctx.desk.took(Workflow.of(each), each.uuid, ended_at, took)
            if ended_at > long_ago:
                reading.longest_run = max(reading.longest_run, took)
    oldest = page.oldest_created_at and page.oldest_created_at - ctx.calls.skew
    at_its_end = page.last or oldest is None  # without dates nobody knows when to stop: one page has to do
    reading.through = at_its_end or bool(oldest and oldest < reading.reach)
    reading.met = at_its_end or bool(oldest and oldest < reading.enough)
    reading.tells = reading.met or bool(oldest and oldest < reading.lately)


def _remember(ctx: Context, memory: dict[str, Any], reading: _Reading) -> dict[str, Any] | None:
    """Return what the next reading has to know; None when this one was given up.

    A reading that was cut short at its last page leaves the rest to the next, which goes back as far. What
    lies behind even the pages of a sweep is given up: nothing would ever read farther.
    """
    if ctx.stopping() and not reading.through:
        return None
    now = dict(memory)
    now["longest_run_ms"] = whole_ms(reading.longest_run)
    if reading.sweep:
        now["swept_at"] = to_ms(reading.began_at)
    if reading.sweep or reading.met:
        now["read_at"] = to_ms(reading.began_at)
    if reading.tells:
        fresh_for = 3 * ctx.options.discovery_interval + timedelta(seconds=10)
        now |= read_through(reading.began_at, fresh_until=reading.began_at + fresh_for)
    alive_since = reading.alive_since and to_ms(reading.alive_since)
    if not reading.sweep and "alive_since" in memory:
        before = memory["alive_since"]
        if not reading.through or before < to_ms(reading.reach):  # it was not looked for as far back
            alive_since = min(alive_since or before, before)
    now.pop("alive_since", None)
    return now | ({"alive_since": alive_since} if alive_since else {})


def _ended_at(ctx: Context, run: Execution) -> datetime:
    now = ctx.now()
    return min(run.ended_at(now) - ctx.calls.skew, now)


async def _judge_breakers(ctx: Context) -> None:
    """Judge the breakers that are not closed, also where nobody waits: people look at them."""
    breakers = await ctx.ledger.workflows.breakers()
    busy = [
        Workflow(key, each.workflow_uuid, each.workflow_name)
        for key, each in breakers.items()
        if each.mode is not Mode.CLOSED
    ]
    await ctx.desk.look(busy, fresh=True)
