"""Let lineages go that wait for their workflow, as soon and as many as it has room for."""

from __future__ import annotations

from worker.domain import admission
from worker.domain.lineage import Lineage
from worker.engine.context import TURN_LEASE, Context
from worker.engine.desk import Workflow

JOB = "release"
FIRST_OF_EACH = 100
MOST_AT_ONCE = 200


async def release(ctx: Context) -> int:
    """Release what may go now; return how many lineages that were. One worker looks, once a second."""
    turn = await ctx.ledger.jobs.begin(
        JOB, lease=TURN_LEASE, gap=ctx.options.release_interval, calls_api=False
    )
    if isinstance(turn, str):
        return 0
    try:
        return await _release(ctx)
    finally:
        await ctx.ledger.jobs.finish(turn)


async def _release(ctx: Context) -> int:
    waiting = await ctx.ledger.workflows.waiting(FIRST_OF_EACH)
    if not waiting:
        return 0
    first = {each.workflow: each.root for each in reversed(waiting)}
    found = await ctx.ledger.read(list(first.values()))
    lineages = {name: found.get(root) for name, root in first.items()}
    # One that was forgotten, or cannot be read, must not hold up those behind it.
    await ctx.ledger.workflows.release(
        [
            each
            for each in waiting
            if first[each.workflow] == each.root and not isinstance(lineages[each.workflow], Lineage)
        ]
    )
    workflows = {name: Workflow.of(each) for name, each in lineages.items() if isinstance(each, Lineage)}
    await ctx.desk.look(workflows.values(), fresh=True)
    candidates = [each for each in waiting if each.workflow in workflows]
    chosen = admission.choose(
        [(each.workflow, each.failed_at) for each in candidates],
        {name: ctx.desk.view(workflow) for name, workflow in workflows.items()},
        MOST_AT_ONCE,
    )
    await ctx.ledger.workflows.release([candidates[position] for position in chosen])
    return len(chosen)
