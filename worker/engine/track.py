"""Put executions under watch that another program names in a message. The message is not to be trusted."""

from __future__ import annotations

from worker.engine.context import Context
from worker.kinetic.wire import usable_uuid

MOST = 10_000
"""Uuids in one message: more of them would hold up the looks at everything else."""
AT_ONCE = 1000


def objection(arguments: tuple[object, ...]) -> str | None:
    """Return why a message cannot be taken, in words that quote nothing of it; None when it can."""
    if len(arguments) != 1 or not isinstance(arguments[0], list):
        return "it takes one argument, a list of uuids"
    if len(arguments[0]) > MOST:
        return f"it has {len(arguments[0])} uuids, and takes {MOST} at most"
    return None


async def track(ctx: Context, arguments: tuple[object, ...]) -> None:
    """Put the executions that a message names under watch, and say in the log what came of it.

    What cannot be a uuid is counted and left out. Doing it twice changes nothing.
    """
    why_not = objection(arguments)
    if why_not is not None:
        ctx.log.warning("tracking_refused", detail=why_not, next="nothing of the message is tracked")
        return
    (given,) = arguments
    assert isinstance(given, list)  # noqa: S101  # `objection` says so
    uuids = list(dict.fromkeys(each for each in given if usable_uuid(each)))
    new = 0
    for start in range(0, len(uuids), AT_ONCE):
        new += await ctx.ledger.track(uuids[start : start + AT_ONCE])
    unusable = sum(not usable_uuid(each) for each in given)
    tell = ctx.log.warning if unusable else ctx.log.info
    tell("tracking_begun", tracked=new, known=len(uuids) - new, unusable=unusable or None)
