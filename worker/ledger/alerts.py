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
from worker.domain.text import clean_text
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.errors import LedgerError, LedgerFormatError
from worker.ledger.gate import as_mapping
from worker.ledger.jobs import Turn
from worker.ledger.ledger import Ledger
from worker.ledger.reports import Reports, StoredEvent
from worker.ledger.scripts import Call, run, script

JOB = "alert"
FORMAT = 1
"""Of the memory. To be raised when an older version would misread it."""
KEPT = 200
"""Entries of what was said."""
SIGN_EVERY_S = 5.0
FACT_CHARS = 300
_MEMORY = TypeAdapter(Memory)


class MemoryTooNew(LedgerFormatError):
    """A newer version keeps the memory: it must not be overwritten by one that cannot read it."""


class MemoryLost(LedgerFormatError):
    """The memory is damaged: what was gathered or waited to be sent is not known any more."""


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
        """Return what is remembered; None when nothing is.

        Raises:
            MemoryTooNew: a newer version wrote it.
            MemoryLost: it is damaged.
        """
        text, written = await self._ledger.connection.command(
            "HMGET", self._ledger.keys.alerts, "memory", "format"
        )
        if not text:
            return None
        if written and written.isdigit() and int(written) > FORMAT:  # none: before there was a number
            raise MemoryTooNew(
                f"what alerts remember has format {int(written)} and this version reads {FORMAT}: "
                "upgrade this process; newer ones go on saying what is wrong"
            )
        try:
            return _MEMORY.validate_json(text)
        except ValidationError:
            raise MemoryLost(
                "what alerts remember is damaged; the next look of `serve` or a worker begins anew"
            ) from None

    async def save(self, turn: Turn, memory: Memory, said: Sequence[Said] = ()) -> bool:
        """Store what is remembered, and what was said since; False when somebody else has the turn."""
        keys = self._ledger.keys
        entries = [_SAID.dump_json(each).decode() for each in said]
        text = _MEMORY.dump_json(memory).decode()
        arguments: list[str | int] = [turn.token, secrets.token_hex(6), text, FORMAT, KEPT, *entries]
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

    async def trimmed(self, cursor: str) -> bool:
        """Return whether the stream begins behind an event that was read: what came next may be gone."""
        if cursor == "0-0":
            return False  # the stream was empty: there is no entry to miss
        first = await self._ledger.connection.command(
            "XRANGE", self._ledger.keys.events, "-", "+", "COUNT", 1
        )
        return bool(first) and _place(str(first[0][0])) > _place(cursor)

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


def _place(entry: str) -> tuple[int, int]:
    at_ms, _, number = entry.partition("-")
    return int(at_ms), int(number or 0)


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
        execution=_storable(fact("execution_uuid") or event.root),
        workflow=_storable(fact("workflow_uuid")),
        workflow_name=clean_text(fact("workflow_name"), FACT_CHARS),
        reason=clean_text(fact("reason"), FACT_CHARS),
    )


def _storable(uuid: str) -> str:
    """Return a uuid that can be written down; lone surrogates cannot, and would stop alerts for good.

    Not cleaned any further: what is left could be the uuid of another one.
    """
    return uuid.encode("utf-8", "replace").decode()
