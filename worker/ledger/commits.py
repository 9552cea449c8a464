"""Commits of lineages: compare-and-set, and many in one round trip.

Commits that are asked for while one round trip is under way leave together in the next: the code that
commits reads one lineage at a time, the server sees batches. Intents travel apart from the rest where
they wait for replicas or the disk: what is known already is recorded without such a wait.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from worker.domain.budget import PACE_WINDOW, Caps
from worker.domain.lineage import FLYING_STATES, Lineage, State
from worker.ledger import records
from worker.ledger.clock import ServerClock, to_ms, whole_ms
from worker.ledger.connection import Connection
from worker.ledger.groups import Group, verdict_field
from worker.ledger.keys import Keys
from worker.ledger.packing import compact, compact_fields
from worker.ledger.returns import KEEP_RETURNS_MS, hour_of, returned
from worker.ledger.scripts import Call, run_all, script
from worker.ledger.workflows import waiting_member

if TYPE_CHECKING:
    from worker.domain.transitions import Change, Event

BATCH = 100
TURNS = 2
"""Of the event loop, for which a batch waits so that others join it: a trip to the server costs more than a
commit in it. Nobody waits where nothing else is to be done."""


class Outcome(StrEnum):
    """What became of a commit."""

    COMMITTED = "committed"
    STALE = "stale"
    """Someone else committed this lineage first: drop what you have and read it again."""
    GATED = "gated"
    """The gate is closed: no call may leave."""
    LIMITED = "limited"
    """Its workflow's breaker or a limit does not let another clone go now: look again at what is known of
    it."""
    PACED = "paced"
    """So many calls left within this second that the next one has to wait a little."""
    TAKEN = "taken"
    """The execution belongs to another lineage already."""
    NOT_DURABLE = "not_durable"
    """An intent was committed, but a crash or a failover could still lose it: its call must not leave."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast retry calls of all workers may leave: a token bucket.

    Attributes:
        per_second: tokens that come with each second.
        burst: tokens that it holds at most.
    """

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class Admission:
    """What an intent is held against when it is recorded.

    Attributes:
        workflow, breaker_version: the breaker by which `caps` were worked out; it must not have changed.
        caps: how far each count may go.
        window: over which clones are counted.
        longest_pause: of the workflow's breaker: a clone in flight for longer takes none of its places.
        rate: None = as fast as they come.
    """

    workflow: str = ""
    breaker_version: int = 0
    caps: Caps | None = None
    window: timedelta = timedelta(0)
    longest_pause: timedelta = timedelta(0)
    rate: Rate | None = None

    def as_json(self) -> str:
        """Return it for `commit.lua`; a limit that does not exist is left out."""
        limits: dict[str, str | int | float | None] = {}
        if self.caps:
            limits = {name: getattr(self.caps, name) for name in _CAPS}
            limits |= {"workflow": self.workflow, "breaker": self.breaker_version}
            limits |= {"window": whole_ms(self.window), "pace_window": whole_ms(PACE_WINDOW)}
            limits |= {"longest_pause": whole_ms(self.longest_pause)}
        if self.rate:
            limits |= {"rate": self.rate.per_second, "burst": self.rate.burst}
        return json.dumps({name: value for name, value in limits.items() if value is not None})


_CAPS = ("places", "in_flight", "all_in_flight", "made", "all_made", "made_lately", "floor")
ANY = Admission()
"""No limit but the gate."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    call: Call
    done: asyncio.Future[Outcome]


class Commits:
    """Collects commits and sends them together. One per event loop."""

    def __init__(self, connection: Connection, keys: Keys, clock: ServerClock, events_maxlen: int) -> None:
        self._keys = keys
        self._clock = clock
        self._events_maxlen = events_maxlen
        self.started_ms: int | None = None
        self._changes = _Lane(connection, clock)
        self._intents = _Lane(connection, clock, keys.facts) if connection.durability else self._changes

    async def commit(
        self, change: Change, *, next_at: datetime | None = None, admission: Admission | None = None
    ) -> Outcome:
        """Store a change unless the lineage moved on meanwhile.

        Args:
            change: what happened; its events are appended and counted in the same step.
            next_at: when the lineage needs attention next, where its own fields do not say.
            admission: given with an intent. Refuse it while no retry call may leave (`GATED`, `PACED`) or
                these
                limits do not allow it (`LIMITED`); wait until it is as durable as the connection asks for
                (else `NOT_DURABLE`).

        Raises:
            LedgerUnavailable: no answer; the change may or may not be stored. Never act as if it were.
        """
        call = self._call(change, next_at, admission)
        return await (self._changes if admission is None else self._intents).send(call)

    def _call(self, change: Change, next_at: datetime | None, admission: Admission | None) -> Call:
        before, after, keys = change.before, change.after, self._keys
        workflow, ran = after.workflow, change.ran
        token = secrets.token_urlsafe(6)
        claimed = change.claims_clone or ""
        left, entered = Group.of(before).field if before else "", Group.of(after).field
        counted = {
            "from": left,
            "to": entered,
            "since": to_ms(after.since),
            "workflow": workflow,
            "name": after.workflow_name or after.workflow_uuid,
            "verdict": verdict_field(before, after),
            "returned": returned(before, after),
            "keep_ms": KEEP_RETURNS_MS,
        }
        arguments: list[str | int] = [
            before.version if before else 0,
            token,
            records.stored(after, token),
            after.root,
            "" if after.state.is_final else to_ms(next_at or _attention_at(after)),
            claimed,
            "" if admission is None else admission.as_json(),
            self._events_maxlen,
            "" if before or self.started_ms is None else self.started_ms,
            _enters_or_leaves(_flies(before), _flies(after)),
            f"{after.root}:{(before or after).next_attempt}",
            _made(before, after),
            f"{ran.ended.value}{ran.uuid}" if ran else "",
            to_ms(ran.at) if ran else 0,
            int(ran is not None and not ran.ended.by_us),
            waiting_member(before or after),
            "+" if change.parks else "-" if before and before.state is State.SCHEDULED else "",
            "" if before and not claimed else keys.key(after.workflow_version_uuid, after.fingerprint),
            compact(counted),
        ]
        for event in change.events:
            arguments += [event.name, event_data(after, event)]
        return Call(
            script("commit"),
            [
                keys.lineage(after.root),
                keys.state(before.state if before else after.state),
                keys.state(after.state),
                keys.clones,
                keys.events,
                keys.counters,
                keys.gate,
                keys.lineage(claimed or after.root),
                keys.facts,
                keys.flight(workflow),
                keys.made_of(workflow),
                keys.made,
                keys.runs(workflow),
                keys.traffic_of(workflow),
                keys.traffic,
                keys.waiting,
                keys.breakers,
                keys.rate,
                *(keys.state(state) for state in FLYING_STATES),
                keys.keys,
                keys.groups,
                keys.group(left or entered),
                keys.group(entered),
                keys.names,
                keys.verdicts,
                keys.returns(hour_of(self._clock.now())),
                keys.made_sums_of(workflow),
                keys.made_sums,
            ],
            arguments,
        )


class _Lane:
    """Commits on their way: one batch at a time, the next gathers meanwhile."""

    def __init__(self, connection: Connection, clock: ServerClock, fence_key: str = "") -> None:
        self._connection = connection
        self._clock = clock
        self._fence_key = fence_key
        self._waiting: list[_Waiting] = []
        self._sender: asyncio.Task[None] | None = None

    async def send(self, call: Call) -> Outcome:
        """Send a commit with the next batch and return what became of it."""
        waiting = _Waiting(call, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        return await waiting.done

    async def _send(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            try:
                answers = await self._run([waiting.call for waiting in batch])
            except BaseException as exc:  # noqa: BLE001  # whoever waits must learn of it, cancellation included
                failure = exc if isinstance(exc, Exception) else asyncio.CancelledError()
                answers = [failure] * len(batch)
            for waiting, answer in zip(batch, answers, strict=True):
                if waiting.done.done():
                    continue
                if isinstance(answer, BaseException):
                    waiting.done.set_exception(answer)
                else:
                    waiting.done.set_result(answer)

    async def _run(self, calls: Sequence[Call]) -> list[Outcome | BaseException]:
        fenced = self._connection.fenced(self._fence_key) if self._fence_key else None
        mark = self._clock.mark()
        outcomes: list[Outcome | BaseException] = []
        for answer in await run_all(fenced or self._connection, calls):
            if isinstance(answer, BaseException):
                outcomes.append(answer)
                continue
            self._clock.hear(mark, answer[1])
            outcome = Outcome(answer[0])
            lost = fenced and not fenced.reached and outcome is Outcome.COMMITTED
            outcomes.append(Outcome.NOT_DURABLE if lost else outcome)
        return outcomes


def event_data(lineage: Lineage, event: Event) -> str:
    """Return the data of a stream entry: the event's facts and whose they are, empty ones left out."""
    whose = {"workflow_uuid": lineage.workflow_uuid, "workflow_name": lineage.workflow_name}
    return compact_fields({**event.facts, **whose})


def _flies(lineage: Lineage | None) -> bool:
    return lineage is not None and lineage.state in FLYING_STATES


def _enters_or_leaves(was: bool, is_now: bool) -> str:
    return "" if was == is_now else "+" if is_now else "-"


def _made(before: Lineage | None, after: Lineage) -> str:
    """Say whether a clone is about to be made, was made, or turned out not to have been made after all.

    The member of the index names the attempt by the lineage before the change: it is the one whose call it
    is.
    """
    if before is None:
        return ""
    if after.state is State.SUBMITTING:
        return "" if after.is_ordered else "+"  # a person's word is bound by no budget, and uses none up
    if after.made > before.made:
        # Where it is scheduled or held, it was thought that no clone had been made.
        return "!" if before.state in (State.SCHEDULED, State.HELD) else "="
    had_a_call = before.intent is not None and before.state is not State.SCHEDULED
    settled = after.state in (State.SCHEDULED, State.REJECTED, State.RECOVERED) or after.is_held_for_no_call
    given_up = after.state is State.CANCELLED and not after.is_in_doubt
    return "-" if had_a_call and (settled or given_up) else ""


def _attention_at(lineage: Lineage) -> datetime:
    """Return the time that a lineage is indexed by: what its state waits for, else since when it is in it."""
    if lineage.state is State.SCHEDULED and lineage.due_at:
        return lineage.due_at
    if lineage.state is State.SUBMITTING and lineage.intent:
        return lineage.intent.lease_until
    return lineage.since
