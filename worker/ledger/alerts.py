"""What alerts remember, kept in the ledger: so that any process can go on where another one stopped.

Also the signs of life of jobs that take long, without which a busy worker would look like a dead one.
Knows nothing of what is said, or how.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from worker.domain.alerts import Memory, Severity, Sighting
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.errors import LedgerError
from worker.ledger.gate import as_mapping
from worker.ledger.jobs import Turn
from worker.ledger.ledger import Ledger
from worker.ledger.reports import Reports, StoredEvent
from worker.ledger.scripts import Call, run, script

JOB = "alert"
KEPT = 200
"""Entries of what was said."""
SIGN_EVERY_S = 5.0
_MEMORY = TypeAdapter(Memory)


@dataclass(frozen=True, slots=True)
class Said:
    """Something that was said.

    Attributes:
        at: when it was delivered.
        about, title: see `Message`.
        address: which of the addresses has it, counted from 1; 0 when it was given up.
    """

    at: datetime
    about: str
    severity: Severity
    title: str
    address: int


_SAID = TypeAdapter(Said)


class Alerts:
    """The alerts of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._reports = Reports(ledger)

    async def memory(self) -> Memory | None:
        """Return what is remembered; None when nothing is, or it cannot be read: alerts then begin anew."""
        text = await self._ledger.connection.command("HGET", self._ledger.keys.alerts, "memory")
        try:
            return _MEMORY.validate_json(text) if text else None
        except ValidationError:
            return None

    async def save(self, turn: Turn, memory: Memory, said: Sequence[Said] = ()) -> bool:
        """Store what is remembered, and what was said since; False when somebody else has the turn."""
        keys = self._ledger.keys
        entries = [_SAID.dump_json(each).decode() for each in said]
        text = _MEMORY.dump_json(memory).decode()
        arguments: list[str | int] = [turn.token, secrets.token_hex(6), text, KEPT, *entries]
        call = Call(script("note_alerts"), [keys.job(turn.job), keys.alerts, keys.alerts_said], arguments)
        mark = self._ledger.clock.mark()
        now_ms, written = await run(self._ledger.connection, call)
        self._ledger.clock.hear(mark, now_ms)
        return bool(written)

    async def said(self, count: int = KEPT) -> list[Said]:
        """Return what was said lately, newest first."""
        found = await self._ledger.connection.command("LRANGE", self._ledger.keys.alerts_said, 0, count - 1)
        return [each for text in found for each in _read_said(text)]

    async def newest(self) -> str:
        """Return the last event of the stream there is now: what comes behind it is news.

        Not the time: our clock may run ahead of the server's, and what happens meanwhile would be missed.
        """
        found = await self._ledger.connection.command(
            "XREVRANGE", self._ledger.keys.events, "+", "-", "COUNT", 1
        )
        return str(found[0][0]) if found else "0-0"

    async def news(self, cursor: str, limit: int) -> tuple[str, list[Sighting]]:
        """Return events of lineages after one of the stream, and the last one that was read."""
        page = await self._reports.events_since(f"({cursor}", limit=limit)
        return (page[-1][0] if page else cursor), [_sighting(event) for _, event in page if event.root]

    async def signs_of_life(self) -> list[datetime]:
        """Return when jobs that take long gave a sign of life last."""
        found = as_mapping(await self._ledger.connection.command("HGETALL", self._ledger.keys.busy))
        return [from_ms(int(at)) for at in found.values() if at.isdigit()]


@asynccontextmanager
async def signs_of_life(ledger: Ledger, job: str) -> AsyncIterator[None]:
    """Let everyone know, while the block runs, that a worker is in the midst of a job."""

    async def sign() -> None:
        while True:
            await asyncio.sleep(SIGN_EVERY_S)
            with suppress(LedgerError):
                await ledger.connection.command("HSET", ledger.keys.busy, job, to_ms(ledger.clock.now()))

    signing = asyncio.create_task(sign())
    try:
        yield
    finally:
        signing.cancel()


def _read_said(text: str) -> list[Said]:
    try:
        return [_SAID.validate_json(text)]
    except ValidationError:
        return []  # a newer version's


def _sighting(event: StoredEvent) -> Sighting:
    def fact(name: str) -> str:
        value = event.facts.get(name, "")
        return value if isinstance(value, str) else json.dumps(value)

    return Sighting(
        event=event.name,
        at=event.at,
        execution=fact("execution_uuid") or event.root,
        workflow=fact("workflow_uuid"),
        workflow_name=fact("workflow_name"),
        reason=fact("reason"),
    )
