"""Say in the log that a person has paused all retries, and that they go on: once per process.

What a pause does is in the gate (`lua/prelude.lua`), in the same step as every claim and every intent.
Nothing depends on what is noticed here.
"""

from __future__ import annotations

from datetime import datetime

from worker.engine.context import Context
from worker.ledger.gate import Halt
from worker.ledger.pauses import Pauses


async def note_pauses(ctx: Context) -> None:
    """Look whether everything is paused; tell what changed since this process looked last.

    A pause that has run out is taken off the gate here, for it has nobody else who could say that it is over.
    """
    halt, over = await Pauses(ctx.ledger).look()
    known = ctx.paused
    ctx.paused = halt
    if known and known != halt:
        _tell_end(ctx, known)
    elif over:
        _tell_end(ctx, over)
    if halt and halt != known:
        ctx.log.warning(
            "retries_paused",
            **_facts(halt),
            next="no retry call leaves until then" if halt.until else "no retry call leaves until `resume`",
        )


def _tell_end(ctx: Context, halt: Halt) -> None:
    lasted = (ctx.now() - halt.since).total_seconds()
    ctx.log.info("retries_resumed", **_facts(halt), duration=round(lasted, 3))


def _facts(halt: Halt) -> dict[str, str]:
    told = {"paused_by": halt.by, "why": halt.why, "since": _iso(halt.since)}
    return told | ({"until": _iso(halt.until)} if halt.until else {})


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
