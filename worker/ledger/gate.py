"""The gate before the API, shared by all workers: open, opening by steps, paused, suspended, or down.

What it says is worked out in `lua/prelude.lua`, in the same step in which work is claimed or an intent is
recorded, so no call leaves through a gate that another worker has closed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from worker.ledger.clock import ServerClock, from_ms, to_ms, whole_ms
from worker.ledger.connection import Connection
from worker.ledger.keys import Keys
from worker.ledger.packing import compact_fields
from worker.ledger.scripts import Call, run, script

LONGEST_PAUSE = timedelta(seconds=3700)
"""As in `lua/prelude.lua`: one that ends later was asked for before the server's clock was put back."""


class Closed(StrEnum):
    """Why the gate stays closed until a probe succeeds."""

    SUSPENDED = "suspended"
    """The API turns our key down."""
    DOWN = "down"
    """The API does not answer, or with errors only."""


@dataclass(frozen=True, slots=True)
class Halt:
    """A person's word that no retry call leaves for any workflow. Everything else goes on.

    Attributes:
        by, why: who, and their words.
        since: since when.
        until: until when; None = until someone resumes.
    """

    by: str
    why: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class GateState:
    """What is known of the gate.

    Attributes:
        closed: why it is closed until a probe succeeds; None when it is not.
        reason: of that: `unauthorized`, `connect_error`, `http_502`, …
        detail: the API's own words, cleaned.
        since: since when it is closed.
        paused_until: no call before this; None when there is no pause.
        rested_until: the end of the last pause, past or to come; None when there was none.
        pause_reason: why it is paused.
        retry_answered_at: when the retry call that was answered last was begun; None before any was.
        opening_since: since when it has been opening by steps; None when it is closed or wide open.
        halt: a person's pause of everything; None when there is none.
    """

    closed: Closed | None = None
    reason: str = ""
    detail: str = ""
    since: datetime | None = None
    paused_until: datetime | None = None
    rested_until: datetime | None = None
    pause_reason: str = ""
    opening_since: datetime | None = None
    retry_answered_at: datetime | None = None
    halt: Halt | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """Calls that the API answered since they were reported last.

    Attributes:
        calls: how many.
        retries: how many of them were retry calls: each opens an opening gate by one place.
        begun_at: when the newest answered call was begun, by the server's clock; None before any was.
        retry_begun_at: the same of the retry calls.
    """

    calls: int = 0
    retries: int = 0
    begun_at: datetime | None = None
    retry_begun_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed in a way that speaks of an outage.

    Attributes:
        begun_at: when the call was begun, by the server's clock.
        retry: whether it was a retry call.
        reason, detail: as the call's own end names them.
    """

    begun_at: datetime
    retry: bool
    reason: str
    detail: str


class Heard(StrEnum):
    """What a report of calls did to the gate."""

    CLOSED = "closed"
    """This report closed it."""
    WAS_CLOSED = "was_closed"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class ClosingRule:
    """How long what was heard of calls says something, and how long a closed gate waits for a probe."""

    memory: timedelta
    first_probe_in: timedelta
    longest_pause: timedelta


class Gate:
    """Closes, probes and opens the gate."""

    def __init__(self, connection: Connection, keys: Keys, clock: ServerClock, events_maxlen: int) -> None:
        self._connection = connection
        self._keys = keys
        self._clock = clock
        self._events_maxlen = events_maxlen

    async def suspend(
        self, reason: str, detail: str, first_probe_in: timedelta, longest_pause: timedelta
    ) -> bool:
        """Suspend every worker until a probe succeeds; return whether it was not suspended before."""
        times = (whole_ms(first_probe_in), whole_ms(longest_pause))
        answer = await self._run("close_gate", "suspend", reason, detail, *times)
        return bool(answer[1])

    async def pause(self, reason: str, duration: timedelta) -> bool:
        """Let every call rest for a while; return whether calls were allowed before."""
        answer = await self._run("close_gate", "pause", reason, "", whole_ms(duration), 0)
        return bool(answer[1])

    async def report(self, answers: Answers, failure: Failure | None, rule: ClosingRule) -> Heard:
        """Report how calls ended, `failure` just now; return what that did to the gate."""
        told: list[str | int] = [answers.calls, answers.retries]
        told += [1, to_ms(failure.begun_at), int(failure.retry)] if failure else [0, 0, 0]
        told.append(whole_ms(rule.memory))
        told += [failure.reason, failure.detail] if failure else ["", ""]
        told += [whole_ms(rule.first_probe_in), whole_ms(rule.longest_pause)]
        told += [to_ms(each) if each else 0 for each in (answers.begun_at, answers.retry_begun_at)]
        answer = await self._run("report_calls", *told)
        return Heard(answer[1])

    async def claim_probe(self, longest: timedelta) -> bool:
        """Return whether the gate waits for a probe and it is this worker's turn to send it.

        The next probe is twice as far away as this one was, `longest` at most.
        """
        answer = await self._run("claim_probe", whole_ms(longest))
        return bool(answer[1])

    async def open(self) -> tuple[Closed, timedelta] | None:
        """Open the gate by steps; return what it was and for how long, or None when it was not closed."""
        now_ms, was, since_ms = await self._run("open_gate")
        return None if was == "open" else (Closed(was), timedelta(milliseconds=now_ms - since_ms))

    async def look(self) -> GateState:
        """Return the gate as it is now."""
        return read_gate(await self._connection.command("HGETALL", self._keys.gate), self._clock.now())

    async def halt(
        self, wanted: Halt | None, event: str, facts: Mapping[str, str]
    ) -> tuple[bool, Halt | None]:
        """Let no retry call leave (None: let them leave again) and say so in the stream.

        Returns:
            whether that changed something, and the halt that there was before. Whoever is second changes
            nothing.
        """
        keys, text = self._keys, _dump_halt(wanted) if wanted else ""
        until = to_ms(wanted.until) if wanted and wanted.until else ""
        data = compact_fields(facts)
        arguments = [text, until, self._events_maxlen, event, data]
        mark = self._clock.mark()
        call = Call(script("halt"), [keys.gate, keys.events, keys.counters], arguments)
        now_ms, changed, before = await run(self._connection, call)
        self._clock.hear(mark, now_ms)
        # A command that is sent again after its answer was lost finds its own halt.
        return bool(changed) or (bool(text) and before == text), _load_halt(before)

    async def _run(self, name: str, *arguments: str | int) -> list[Any]:
        mark = self._clock.mark()
        answer: list[Any] = await run(self._connection, Call(script(name), [self._keys.gate], arguments))
        self._clock.hear(mark, answer[0])
        return answer


def read_gate(stored: object, now: datetime) -> GateState:
    """Return the gate from its hash (a mapping, or the flat list of an older protocol)."""
    fields = as_mapping(stored)
    until = _moment(fields, "until")
    paused = until if until and now < until <= now + LONGEST_PAUSE else None
    closed = Closed(fields["kind"]) if "kind" in fields else None
    return GateState(
        closed=closed,
        reason=fields.get("reason", ""),
        detail=fields.get("detail", ""),
        since=_moment(fields, "since"),
        paused_until=paused,
        rested_until=until,
        pause_reason=fields.get("pause_reason", "") if paused else "",
        opening_since=None if closed or paused else _moment(fields, "opening_since"),
        retry_answered_at=_moment(fields, "retry_answered_begun")
        if fields.get("retry_answered_begun", "0") != "0"
        else None,
        halt=_in_force(_load_halt(fields.get("halt", "")), now),
    )


def _in_force(halt: Halt | None, now: datetime) -> Halt | None:
    return halt if halt and (halt.until is None or halt.until > now) else None


def _dump_halt(halt: Halt) -> str:
    until = halt.until and to_ms(halt.until)
    return json.dumps({"by": halt.by, "why": halt.why, "since": to_ms(halt.since), "until": until})


def _load_halt(text: str) -> Halt | None:
    if not text:
        return None
    stored = json.loads(text)
    until = stored["until"]
    return Halt(stored["by"], stored["why"], from_ms(stored["since"]), from_ms(until) if until else None)


def as_mapping(answer: object) -> dict[str, str]:
    """Return HGETALL's answer as a mapping, whatever protocol version brought it."""
    if isinstance(answer, dict):
        return answer
    flat = list(answer) if isinstance(answer, (list, tuple)) else []
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _moment(fields: dict[str, str], name: str) -> datetime | None:
    return from_ms(int(fields[name])) if name in fields else None
