"""Put what an older worker wrote into groups: after an upgrade from a format that had none.

Older workers go on until they read the list themselves and find out that the ledger is a newer one's; what
they write after the first pass is met by a second.
"""

from __future__ import annotations

from datetime import timedelta

from worker.domain.lineage import Lineage, State
from worker.engine.context import Context
from worker.ledger import Turn
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.records import FORMAT

JOB = "regroup"
AGAIN_AFTER = timedelta(minutes=10)
"""An older worker is locked out by then, whatever it was doing: its calls and its leases are over."""


async def regroup(ctx: Context) -> int:
    """Put lineages into their groups; return how many were not. One worker does it, until nothing is left."""
    turn = await ctx.ledger.jobs.begin(JOB, lease=timedelta(minutes=1), gap=timedelta(0), calls_api=False)
    if isinstance(turn, str):
        return 0
    memory = dict(turn.memory) if turn.memory.get("for_format") == FORMAT else {"for_format": FORMAT}
    put = 0
    try:
        if not memory.get("settled") or not await ctx.ledger.is_grouped():
            began_at = ctx.now()
            put, whole = await _pass(ctx, turn)
            if whole:
                await ctx.ledger.grouped()
                waited = "passed_at" in memory and began_at - from_ms(memory["passed_at"]) >= AGAIN_AFTER
                memory.setdefault("passed_at", to_ms(ctx.now()))
                memory |= {"settled": True} if waited and not put else {}
    finally:
        await ctx.ledger.jobs.finish(turn, memory)
    return put


async def _pass(ctx: Context, turn: Turn) -> tuple[int, bool]:
    """Go through all lineages once; return how many were put into groups, and whether it came to its end."""
    await ctx.ledger.rename_keys()
    put = 0
    for state in State:
        async for roots in ctx.ledger.scan(state):
            found = (await ctx.ledger.read(roots)).values()
            put += await ctx.ledger.regroup([each for each in found if isinstance(each, Lineage)])
            if ctx.stopping() or not await ctx.ledger.jobs.extend(turn):
                return put, False  # the next worker begins anew: doing it twice changes nothing
    return put, True
