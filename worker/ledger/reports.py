"""Reading the ledger for people: counts, lists and stories. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.domain.breaker import Breaker
from worker.domain.lineage import Lineage, State
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.errors import LedgerFormatError
from worker.ledger.gate import GateState, as_mapping, read_gate
from worker.ledger.ledger import Ledger
from worker.ledger.stream import EventStream, StoredEvent, events_in, place_before
from worker.ledger.workflows import load_breaker

__all__ = ["Reports", "StoredEvent", "Summary", "Tick", "first_score", "read_tick"]

PAGE = 200
CLOCK_LEAD = timedelta(seconds=10)
"""A record's times may be ahead of the stream's by the time that a request travels (see `ServerClock`)."""
STORY_SCAN = 100_000
"""Stream entries looked at, at most, for one story; the record itself tells the rest."""


@dataclass(frozen=True, slots=True)
class Tick:
    """When a job finished last, how long it took and what it did."""

    finished_at: datetime
    duration: timedelta
    did: dict[str, int]


@dataclass(frozen=True, slots=True)
class Summary:
    """The ledger at a glance.

    Attributes:
        now: the Redis server's time.
        states: every state, also those with no lineage in them.
        next_due: when the next retry is due; None when nothing is scheduled.
        started_at: the first start; None before any worker has reached this ledger.
        tracked: executions watched by name.
        breakers: those that are not untouched, by what their workflow is counted under.
        waiting: lineages that wait for their workflow, or for a limit, to have room.
        alive_at: when a worker finished a job last, or said that it is at one; None before any did.
    """

    now: datetime
    states: dict[State, int]
    counters: dict[str, int]
    next_due: datetime | None
    ticks: dict[str, Tick]
    gate: GateState
    started_at: datetime | None
    tracked: int
    breakers: dict[str, Breaker]
    waiting: int
    alive_at: datetime | None = None


class Reports:
    """Answers people's questions from one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def now(self) -> datetime:
        """Return the server's time; from here on the ledger's clock follows it."""
        mark = self._ledger.clock.mark()
        time = await self._ledger.connection.command("TIME")
        self._ledger.clock.hear(mark, int(time[0]) * 1000 + int(time[1]) // 1000)
        return self._ledger.clock.now()

    async def summary(self) -> Summary:
        """Return the ledger at a glance, in one round trip.

        Raises:
            LedgerFormatError: a value of it is damaged, or a newer version's.
        """
        keys, connection = self._ledger.keys, self._ledger.connection
        mark = self._ledger.clock.mark()
        commands: list[tuple[object, ...]] = [("ZCARD", keys.state(state)) for state in State]
        commands += [
            ("TIME",),
            ("HGETALL", keys.counters),
            ("ZRANGE", keys.state(State.SCHEDULED), 0, 0, "WITHSCORES"),
            ("HGETALL", keys.ticks),
            ("HGETALL", keys.gate),
            ("HGET", keys.facts, "started_at"),
            ("ZCARD", keys.tracked),
            ("HGETALL", keys.breakers),
            ("ZCARD", keys.waiting),
            ("HGETALL", keys.busy),
            ("HMGET", keys.groups, *State),
        ]
        answers = await connection.pipelined(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise connection.translated(answer)
        try:
            return self._summary(mark, answers)
        except (ValueError, KeyError, TypeError) as error:
            # One damaged value must be a trouble that callers know, not the end of their loop.
            raise LedgerFormatError(f"the ledger's summary cannot be read ({type(error).__name__})") from None

    def _summary(self, mark: float, answers: list[Any]) -> Summary:
        *counts, time, counters, first_due, ticks, gate, started, tracked, breakers, waiting, busy, groups = (
            answers
        )
        self._ledger.clock.hear(mark, int(time[0]) * 1000 + int(time[1]) // 1000)
        now = self._ledger.clock.now()
        done = {job: read_tick(text) for job, text in sorted(as_mapping(ticks).items())}
        under_way = [from_ms(int(at)) for at in as_mapping(busy).values()]
        return Summary(
            now=now,
            states={
                state: count + int(ended or 0)
                for state, count, ended in zip(State, counts, groups, strict=True)
            },
            counters={name: int(count) for name, count in sorted(as_mapping(counters).items())},
            next_due=first_score(first_due),
            ticks=done,
            gate=read_gate(gate, now),
            started_at=from_ms(int(started)) if started else None,
            tracked=tracked,
            breakers=_breakers(breakers),
            waiting=waiting,
            alive_at=max([*under_way, *(tick.finished_at for tick in done.values())], default=None),
        )

    async def find(self, uuid: str) -> Lineage | None:
        """Return the lineage that an execution belongs to, root or clone; None when it has none.

        Raises:
            LedgerFormatError: it has one that this version cannot read.
        """
        root = (await self._ledger.owners([uuid])).get(uuid, uuid)
        found = (await self._ledger.read([root])).get(root)
        if isinstance(found, LedgerFormatError):
            raise found
        return found

    async def lineages(self, states: tuple[State, ...] = tuple(State)) -> AsyncIterator[Lineage]:
        """Return the lineages of those states, page by page, the newest first of those that are alike.

        Those that cannot be read are passed over; `find` says why.
        """
        for state, index in [(each, index) for each in states for index in await self._ledger.indexes(each)]:
            start = 0
            while roots := await self._ledger.connection.command(
                "ZRANGE", index, start, start + PAGE - 1, "REV"
            ):
                found = await self._ledger.read(roots)
                for lineage in found.values():
                    if isinstance(lineage, Lineage) and lineage.state is state:
                        yield lineage
                start += PAGE

    async def story(self, lineage: Lineage) -> list[StoredEvent]:
        """Return the lineage's events, oldest first, as far as the stream still has them."""
        stream, scanned = EventStream(self._ledger), 0
        events: list[StoredEvent] = []
        place = place_before(lineage.seen_at - CLOCK_LEAD)
        until = f"{to_ms(lineage.since + CLOCK_LEAD)}"
        while scanned < STORY_SCAN:
            page = await stream.read(place, until=until, root=lineage.root)
            if not page.scanned:
                break
            events += page.events
            place, scanned = page.last, scanned + page.scanned
        return events

    async def events_since(
        self, start: str, *, until: str = "+", limit: int = 1000
    ) -> list[tuple[str, StoredEvent]]:
        """Return entries of the stream from `start` on (a stream id; `(id` excludes it), with their ids."""
        found = await self._ledger.connection.command(
            "XRANGE", self._ledger.keys.events, start, until, "COUNT", limit
        )
        ids = [str(entry) for entry, _ in found or ()]
        return list(zip(ids, events_in(found or ()), strict=True))


def _breakers(answer: object) -> dict[str, Breaker]:
    return {key: load_breaker(text) for key, text in sorted(as_mapping(answer).items())}


def first_score(answer: list[Any]) -> datetime | None:
    """Return the time of the first member that a ZRANGE WITHSCORES found; None when it found none."""
    if not answer:
        return None
    first = answer[0]  # a pair with RESP3, a flat list of member and score with RESP2
    score = first[1] if isinstance(first, (list, tuple)) else answer[1]
    return from_ms(float(score))


def read_tick(text: str) -> Tick:
    """Return a tick from what is stored."""
    tick = json.loads(text)
    return Tick(
        from_ms(tick["finished_at"]), timedelta(milliseconds=tick["duration_ms"]), tick.get("did", {})
    )
