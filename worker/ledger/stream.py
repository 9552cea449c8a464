"""Reading the stream of events, from some moment on or as it grows. Changes nothing.

Holds no place of its own: who reads says after which entry, and loses nothing while it is away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.ledger.clock import from_ms, to_ms, whole_ms
from worker.ledger.gate import as_mapping
from worker.ledger.ledger import Ledger
from worker.ledger.scripts import Call, run, script

AT_ONCE = 1000
LONGEST_WAIT = timedelta(seconds=1)
"""Well below the connection's own timeout, or an answer that waits would look like a server that is away."""


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
        events: those that were asked for.
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

    async def read(self, after: str, *, until: str = "+", root: str = "", holding: str = "") -> Entries:
        """Return what comes after a place, as far as it is there already.

        Args:
            after: id of an entry.
            until: id of the last entry that is read.
            root: whose events are wanted; "" = all.
            holding: text that the stored facts have to hold; "" = any.
        """
        key = self._ledger.keys.events
        call = Call(script("read_events"), [key], [f"({after}", until, AT_ONCE, root, holding])
        _, scanned, last, *flat = await run(self._ledger.connection, call)
        whole = zip(*(flat[i::4] for i in range(4)), strict=True)
        return Entries([_event(*each) for each in whole], last or after, scanned)

    async def wait(self, after: str) -> Entries:
        """Return what comes after a place; wait for it for `LONGEST_WAIT`, then return nothing."""
        key = self._ledger.keys.events
        command = ("XREAD", "COUNT", AT_ONCE, "BLOCK", whole_ms(LONGEST_WAIT), "STREAMS", key, after)
        found = _of_one_stream(await self._ledger.connection.command(*command))
        return Entries(list(events_in(found)), str(found[-1][0]) if found else after, len(found))


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


def events_in(found: Any) -> Iterator[StoredEvent]:
    """Yield the events of entries as the server gave them."""
    for entry, written in found:
        fields = as_mapping(written)
        yield _event(str(entry), fields.get("event", ""), fields.get("root", ""), fields.get("data", "{}"))


def _event(entry: str, name: str, root: str, data: str) -> StoredEvent:
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        facts = {}
    at = from_ms(int(entry.partition("-")[0]))
    return StoredEvent(at, name, root, facts if isinstance(facts, dict) else {})
