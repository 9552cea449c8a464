"""Put what an older worker wrote into groups, once: after an upgrade from a format that had none."""

from __future__ import annotations

from datetime import timedelta

from worker.domain.lineage import Lineage, State
from worker.engine.context import Context

JOB = "regroup"


async def regroup(ctx: Context) -> int:
    """Put every lineage into its group; return how many were looked at. One worker does it, and only once."""
    if await ctx.ledger.is_grouped():
        return 0
    turn = await ctx.ledger.jobs.begin(JOB, lease=timedelta(minutes=1), gap=timedelta(0), calls_api=False)
    if isinstance(turn, str):
        return 0
    done = 0
    try:
        for state in State:
            async for roots in ctx.ledger.scan(state):
                found = (await ctx.ledger.read(roots)).values()
                lineages = [each for each in found if isinstance(each, Lineage)]
                await ctx.ledger.regroup(lineages)
                done += len(lineages)
                if ctx.stopping() or not await ctx.ledger.jobs.extend(turn):
                    return done  # the next worker begins anew: doing it twice changes nothing
        await ctx.ledger.grouped()
    finally:
        await ctx.ledger.jobs.finish(turn)
    return done
