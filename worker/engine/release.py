"""Let lineages go that wait for their workflow, as soon and as many as it has room for."""

from __future__ import annotations

from worker.domain import admission
from worker.domain.lineage import Lineage
from worker.engine.context import TURN_LEASE, Context
from worker.engine.desk import Workflow
from worker.ledger.workflows import MOST_WAITED_FOR

JOB = "release"
FIRST_OF_EACH = 50
MOST_AT_ONCE = 200


async def release(ctx: Context) -> int:
    """Release what may go now; return how many lineages that were. One worker looks, once a second.

    Costs one small command while nobody waits.
    """
    if not await ctx.ledger.workflows.count_waiting():
        return 0
    turn = await ctx.ledger.jobs.begin(
        JOB, lease=TURN_LEASE, gap=ctx.options.release_interval, calls_api=False
    )
    if isinstance(turn, str):
        return 0
    memory = None
    try:
        released, after = await _release(ctx, turn.memory.get("after", ""))
        memory = {"after": after}
    finally:
        await ctx.ledger.jobs.finish(turn, memory)
    return released


async def _release(ctx: Context, after: str) -> tuple[int, str]:
    """Release from the workflows behind one; return how many lineages, and where the next turn goes on."""
    waiting = await ctx.ledger.workflows.waiting(FIRST_OF_EACH, after)
    if not waiting:
        return 0, ""
    first = {each.workflow: each for each in reversed(waiting)}
    found = await ctx.ledger.read([each.root for each in first.values()])
    workflows: dict[str, Workflow] = {}
    gone = []
    for name, each in first.items():
        lineage = found.get(each.root)
        if isinstance(lineage, Lineage):
            workflows[name] = Workflow.of(lineage)
        else:
            gone.append(each)  # forgotten, or not to be read: it must not hold up those behind it
    await ctx.desk.look(workflows.values(), fresh=True)
    candidates = [each for each in waiting if each.workflow in workflows]
    chosen = admission.choose(
        [(each.workflow, each.failed_at) for each in candidates],
        {name: ctx.desk.view(workflow) for name, workflow in workflows.items()},
        MOST_AT_ONCE,
    )
    await ctx.ledger.workflows.release([*gone, *(candidates[position] for position in chosen)])
    last = max(first) if len(first) == MOST_WAITED_FOR else ""
    return len(chosen), last
