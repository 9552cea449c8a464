"""Read the newest executions of every status: how workflows do, and how much the platform does.

Failures are noticed by `discover`; a list of failures alone does not tell whether one run of three failed,
or one of three hundred. Without this (`DISCOVERY_SURVEY=false`, or no list) the breaker knows failures and
our own clones only.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from worker.domain.breaker import Mode
from worker.domain.executions import Execution, Status
from worker.engine.context import CLOCK_MARGIN, TURN_LEASE, Context
from worker.engine.desk import Workflow
from worker.engine.joining import join_in
from worker.kinetic import KineticError
from worker.ledger.clock import from_ms, to_ms, whole_ms
from worker.ledger.workflows import REMEMBER_COMPLETED

JOB = "survey"
MOST_PAGES = 20
"""Read at most in one turn: of a platform that does more than these hold in half a minute, a sample is
enough."""


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
    seen: list[Execution] = []
    try:
        async with ctx.ledger.jobs.keeping(turn):
            began_at = ctx.now()
            longest_run = await _read(ctx, _reach(ctx, turn.memory), did, seen)
            memory = {"longest_run_ms": whole_ms(longest_run), "read_at": to_ms(began_at)}
            did["joined"] = await join_in(ctx, seen)
            await _judge_breakers(ctx)
    except KineticError as error:
        ctx.log.info(
            "survey_failed", reason=error.reason, detail=error.detail, next="trying again; nothing is lost"
        )
    finally:
        await ctx.ledger.jobs.finish(turn, memory)
    return did


def _reach(ctx: Context, memory: dict[str, Any]) -> datetime:
    """Return how far back to read, by creation: over what may have completed since the last reading.

    After a pause, and at first, that is far: failures from that time are noticed only now as well, and
    someone may have retried them long ago.
    """
    if "read_at" not in memory:
        return ctx.now() - max(ctx.options.discovery_lookback, ctx.options.discovery_backfill)
    longest_run = timedelta(milliseconds=memory["longest_run_ms"])
    read_at = min(from_ms(memory["read_at"]), ctx.now() - ctx.options.discovery_interval)
    return read_at - min(2 * longest_run, REMEMBER_COMPLETED) - CLOCK_MARGIN


async def _read(ctx: Context, reach: datetime, did: dict[str, int], seen: list[Execution]) -> timedelta:
    """Take in what completed, add all that is `seen`; return how long the longest of the runs took."""
    longest_run = timedelta(0)
    async for page in ctx.calls.pages(status=None, since=reach + ctx.calls.skew):
        did["pages"] += 1
        seen += page.executions
        completed = [each for each in page.executions if each.status is Status.COMPLETED and each.updated_at]
        for each in completed:
            if each.created_at and each.updated_at:
                longest_run = max(longest_run, each.updated_at - each.created_at)
        ours = await ctx.ledger.owners([each.uuid for each in completed])  # their ends are told by commits
        did["completed"] += await ctx.ledger.workflows.note_completed(
            (each.workflow, each.uuid, _ended_at(ctx, each)) for each in completed if each.uuid not in ours
        )
        oldest = page.oldest_created_at
        behind = oldest is None or oldest - ctx.calls.skew < reach
        if page.last or behind or did["pages"] >= MOST_PAGES or ctx.stopping():
            break
    return longest_run


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
