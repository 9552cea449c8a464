"""Reading the stream of events, from some moment on or as it grows. Changes nothing.

Holds no place of its own: who reads says after which entry, and loses nothing while it is away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.ledger.clock import from_ms, to_ms, whole_ms
from worker.ledger.gate import as_mapping
from worker.ledger.ledger import Ledger

AT_ONCE = 1000
LONGEST_WAIT = timedelta(seconds=2)
"""Well below the connection's own timeout, or an answer that waits would look like a server that is away."""
END = "$"
"""The place after the newest entry."""
Wanted = Callable[[str, str], bool]
"""Whether an event of this name and this root ("" = of none) is wanted: asked before its facts are read."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One entry of the stream of events."""

    at: datetime
    name: str
    root: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entries:
    """What was read.

    Attributes:
        events: those that are wanted.
        last: the place to read on from.
        scanned: how many entries were looked at.
    """

    events: list[StoredEvent]
    last: str
    scanned: int


class EventStream:
    """The stream of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def newest(self) -> str:
        """Return the place after the newest entry."""
        found = await self._ledger.connection.command(
            "XREVRANGE", self._ledger.keys.events, "+", "-", "COUNT", 1
        )
        return str(found[0][0]) if found else "0"

    async def read(
        self, after: str, *, until: str = "+", wanted: Wanted | None = None, limit: int = AT_ONCE
    ) -> Entries:
        """Return what comes after a place, as far as it is there already."""
        found = await self._ledger.connection.command(
            "XRANGE", self._ledger.keys.events, f"({after}", until, "COUNT", limit
        )
        return _entries(found or (), after, wanted)

    async def wait(self, after: str, *, wanted: Wanted | None = None) -> Entries:
        """Return what comes after a place; wait for it for `LONGEST_WAIT`, then return nothing."""
        key = self._ledger.keys.events
        command = ("XREAD", "COUNT", AT_ONCE, "BLOCK", whole_ms(LONGEST_WAIT), "STREAMS", key, after)
        answer = await self._ledger.connection.command(*command)
        return _entries(_of_one_stream(answer), after, wanted)


def place_before(moment: datetime) -> str:
    """Return the place before everything that happened at a moment or later."""
    return f"{max(0, to_ms(moment) - 1)}-{2**64 - 1}"


def _of_one_stream(answer: Any) -> Any:
    """Return the entries of the only stream that was read, whatever protocol version brought them."""
    if not answer:
        return ()
    if isinstance(answer, dict):
        (found,) = answer.values()
        nested = len(found) == 1 and isinstance(found[0], list)
        return found[0] if nested else found
    return answer[0][1]


def _entries(found: Any, after: str, wanted: Wanted | None) -> Entries:
    return Entries(list(events_in(found, wanted)), str(found[-1][0]) if found else after, len(found))


def events_in(found: Any, wanted: Wanted | None = None) -> Iterator[StoredEvent]:
    """Yield the events of entries as the server gave them, those that are wanted."""
    for entry, written in found:
        fields = as_mapping(written)
        name, root = fields.get("event", ""), fields.get("root", "")
        if wanted and not wanted(name, root):
            continue
        try:
            facts = json.loads(fields.get("data", "{}"))
        except (ValueError, RecursionError):
            facts = {}
        at = from_ms(int(str(entry).partition("-")[0]))
        yield StoredEvent(at, name, root, facts if isinstance(facts, dict) else {})
