"""Forget lineages whose verdict is older than the retention."""

from __future__ import annotations

from datetime import timedelta

from worker.domain.lineage import FINAL_STATES, Lineage
from worker.engine.context import Context
from worker.engine.regroup import regroup
from worker.ledger.redrives import Redrives

JOB = "prune"
BATCH = 500


async def prune(ctx: Context) -> dict[str, int] | None:
    """Forget what is old enough; return how many lineages went, None when it was not our turn."""
    turn = await ctx.ledger.jobs.begin(
        JOB, lease=timedelta(minutes=5), gap=timedelta(minutes=1), calls_api=False
    )
    if isinstance(turn, str):
        return None
    forgotten = redrives = 0
    try:
        await regroup(ctx)
        redrives = await Redrives(ctx.ledger).forget(ctx.now() - ctx.options.retention)
        for state in sorted(FINAL_STATES):
            before = ctx.now() - ctx.options.retention
            while not ctx.stopping() and (roots := await ctx.ledger.ended_before(state, before, BATCH)):
                found = await ctx.ledger.read(roots)
                gone = await ctx.ledger.forget([each for each in found.values() if isinstance(each, Lineage)])
                forgotten += gone
                if not gone or not await ctx.ledger.jobs.extend(turn):
                    break  # what is left cannot be read, or another worker has the turn
    finally:
        await ctx.ledger.jobs.finish(turn)
    if forgotten:
        ctx.log.info("lineages_forgotten", count=forgotten, retention=ctx.options.retention.total_seconds())
    return {"forgotten": forgotten, **({"redrives": redrives} if redrives else {})}
