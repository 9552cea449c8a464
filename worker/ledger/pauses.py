"""A person's pause of everything, beyond its beginning and end by hand (`Gate.halt`): how it runs out.

A pause that has run out holds nobody up from that moment on, whether or not anybody has noticed. It is taken
off the gate by whoever notices first, so that the stream tells its end as well.
"""

from __future__ import annotations

import json
from datetime import datetime

from worker.domain.lineage import State
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.gate import Halt
from worker.ledger.ledger import Ledger
from worker.ledger.packing import compact
from worker.ledger.scripts import Call, run, script

ITS_END = "its end"
"""Who ended a pause that ran out."""


class Pauses:
    """Looks at the pause of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def look(self) -> tuple[Halt | None, Halt | None]:
        """Return the pause that is in force, and the one that has just been found to have run out.

        The second is told once, to whoever looks first after its end.
        """
        text = await self._ledger.connection.command("HGET", self._ledger.keys.gate, "halt")
        halt = _load(text) if text else None
        if halt is None or halt.until is None or halt.until > self._ledger.clock.now():
            return halt, None
        return None, halt if await self._take_off(text, halt) else None

    async def due(self) -> int:
        """Return how many lineages are due now: what a pause holds up."""
        index, now = self._ledger.keys.state(State.SCHEDULED), to_ms(self._ledger.clock.now())
        count: int = await self._ledger.connection.command("ZCOUNT", index, "-inf", now)
        return count

    async def _take_off(self, text: str, halt: Halt) -> bool:
        keys, facts = self._ledger.keys, {"by": ITS_END, **facts_of(halt)}
        told = compact(facts)
        mark = self._ledger.clock.mark()
        arguments = [text, "retries_resumed", told]
        call = Call(script("end_halt"), [keys.gate, keys.events, keys.counters], arguments)
        now_ms, taken_off = await run(self._ledger.connection, call)
        self._ledger.clock.hear(mark, now_ms)
        return bool(taken_off)


def facts_of(halt: Halt) -> dict[str, str]:
    """Return what an event tells of a pause that is over: who began it and when, and when it was to end."""
    facts = {"paused_by": halt.by, "since": _iso(halt.since)}
    return facts | ({"until": _iso(halt.until)} if halt.until else {})


def _load(text: str) -> Halt:
    stored = json.loads(text)
    until = stored["until"]
    return Halt(stored["by"], stored["why"], from_ms(stored["since"]), from_ms(until) if until else None)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
