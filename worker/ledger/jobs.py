"""Jobs of which one runs at a time, what their next run remembers, and when each job ticked last."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from worker.ledger.clock import ServerClock, to_ms, whole_ms
from worker.ledger.connection import Connection
from worker.ledger.errors import LedgerError
from worker.ledger.keys import Keys
from worker.ledger.scripts import Call, run, script


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to do a job, until it is finished or `lease` passes without an extension."""

    job: str
    token: str
    lease: timedelta
    calls_api: bool
    memory: dict[str, Any]


class Jobs:
    """Hands out turns and records ticks."""

    def __init__(self, connection: Connection, keys: Keys, clock: ServerClock) -> None:
        self._connection = connection
        self._keys = keys
        self._clock = clock

    async def begin(self, job: str, *, lease: timedelta, gap: timedelta, calls_api: bool) -> Turn | str:
        """Return a turn, or why there is none: `busy`, `early`, `suspended` or `paused`."""
        token = secrets.token_hex(6)
        keys = [self._keys.job(job), self._keys.gate]
        answer = await self._run("begin_job", keys, token, whole_ms(lease), whole_ms(gap), int(calls_api))
        if answer[1] != "begun":
            return str(answer[1])
        return Turn(job, token, lease, calls_api, _memory(answer[2]))

    async def extend(self, turn: Turn) -> bool:
        """Keep the turn for another lease; False when another worker has it, or the gate was closed."""
        keys = [self._keys.job(turn.job), self._keys.gate]
        answer = await self._run("extend_job", keys, turn.token, whole_ms(turn.lease), int(turn.calls_api))
        return bool(answer[1])

    @asynccontextmanager
    async def keeping(self, turn: Turn) -> AsyncIterator[None]:
        """Extend the turn again and again while the block runs.

        The lease can be short that way: a worker that was killed in its turn holds up the job for no longer.
        """

        async def keep() -> None:
            while True:
                await asyncio.sleep(turn.lease.total_seconds() / 3)
                with suppress(LedgerError):
                    await self.extend(turn)

        keeper = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeper.cancel()

    async def finish(self, turn: Turn, memory: dict[str, Any] | None = None) -> None:
        """Give the turn back; `memory` (small, JSON) is what the next one is handed."""
        written = "" if memory is None else json.dumps(memory)
        await self._run("finish_job", [self._keys.job(turn.job)], turn.token, written)

    async def tick(self, job: str, duration: timedelta, did: dict[str, int]) -> None:
        """Record that a job has finished just now, and what it did."""
        tick = {"finished_at": to_ms(self._clock.now()), "duration_ms": whole_ms(duration), "did": did}
        await self._connection.command("HSET", self._keys.ticks, job, json.dumps(tick))

    async def _run(self, name: str, keys: list[str], *arguments: str | int) -> list[Any]:
        mark = self._clock.mark()
        answer: list[Any] = await run(self._connection, Call(script(name), keys, arguments))
        self._clock.hear(mark, answer[0])
        return answer


def _memory(written: str) -> dict[str, Any]:
    try:
        memory = json.loads(written) if written else {}
    except ValueError:
        return {}  # a memory is a convenience: without it the next run looks at everything again
    return memory if isinstance(memory, dict) else {}
