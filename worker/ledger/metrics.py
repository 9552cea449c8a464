"""Everything that a scrape needs, read in one round trip.

What is read grows with the number of workflows, of their reasons and of kinds of calls, never with that of
lineages: sorted sets are counted by the server, and hashes hold counts. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from worker.domain.alerts import Memory
from worker.domain.breaker import Breaker
from worker.domain.lineage import State
from worker.ledger import records
from worker.ledger.calls import CallReport, read_calls
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.errors import LedgerFormatError
from worker.ledger.gate import GateState, as_mapping, read_gate
from worker.ledger.groups import Group, Verdict
from worker.ledger.ledger import Ledger
from worker.ledger.reports import Tick, first_score, read_tick
from worker.ledger.workflows import load_breaker

WORKED_OFF = (State.SCHEDULED, State.SUBMITTING, State.RUNNING, State.UNRESOLVED)
"""States whose lineages are due at a time and then dealt with by a worker."""
HASHES = ("gate", "groups", "counters", "verdicts", "names", "calls", "ticks", "breakers")
"""Read as a whole: none of them grows with the number of lineages. Events before verdicts: what is committed
in between must not look like verdicts of workflows that are not shown."""
_MEMORY = TypeAdapter(Memory)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Due:
    """Lineages of one state whose time has come.

    Attributes:
        count: how many.
        oldest: for how long the first of them has been due; zero when none is.
    """

    count: int = 0
    oldest: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Alerting:
    """What is known of those who tell people.

    Attributes:
        looked_at: when one of them looked last.
        waiting: messages that not every address has.
    """

    looked_at: datetime
    waiting: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The ledger at a moment.

    Attributes:
        now: the Redis server's time.
        format: of the records; None when no worker has reached this ledger yet.
        started_at: the first start; None likewise.
        states: every state, also those with no lineage in them.
        due: by state, of those in `WORKED_OFF`.
        held_for: how long the lineage held longest has been so; None when none is.
        waiting: lineages that wait for their workflow, or for a limit, to have room.
        tracked: executions watched by name.
        groups: lineages that are alike → how many.
        verdicts: kinds of verdicts → how many were ever given.
        names: workflow → its name.
        events: event name → how often it happened.
        calls: to the API.
        ticks: job → its last run.
        breakers: those that are not untouched, by what their workflow is counted under.
        alerting: None where nobody ever alerted, or this version cannot read what they remember.
    """

    now: datetime
    format: int | None
    started_at: datetime | None
    states: Mapping[State, int]
    due: Mapping[State, Due]
    held_for: timedelta | None
    waiting: int
    tracked: int
    gate: GateState
    groups: Mapping[Group, int] = field(default_factory=dict)
    verdicts: Mapping[Verdict, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    calls: CallReport = field(default_factory=CallReport)
    ticks: Mapping[str, Tick] = field(default_factory=dict)
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    alerting: Alerting | None = None

    @property
    def is_readable(self) -> bool:
        """Whether this version can read the records: no newer worker has written them."""
        return self.format is None or self.format <= records.FORMAT


class Metrics:
    """Takes snapshots of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._knows_the_time = False

    async def read(self) -> Snapshot:
        """Return the ledger as it is now; the first time costs a round trip more, to learn the server's time.

        Raises:
            LedgerUnavailable: no answer.
            LedgerError: the server refused a command.
        """
        ledger, keys = self._ledger, self._ledger.keys
        if not self._knows_the_time:
            await self._hear_the_time()
        mark = ledger.clock.mark()
        now_ms = to_ms(ledger.clock.now())
        commands: dict[str, tuple[object, ...]] = {
            "time": ("TIME",),
            "facts": ("HMGET", keys.facts, "started_at", "format"),
            "waiting": ("ZCARD", keys.waiting),
            "tracked": ("ZCARD", keys.tracked),
            "held": ("ZRANGE", keys.state(State.HELD), 0, 0, "WITHSCORES"),
            "alerts": ("HGET", keys.alerts, "memory"),
        }
        commands |= {name: ("HGETALL", getattr(keys, name)) for name in HASHES}
        commands |= {f"in {state}": ("ZCARD", keys.state(state)) for state in State}
        for state in WORKED_OFF:
            index = keys.state(state)
            commands[f"due {state}"] = ("ZCOUNT", index, "-inf", now_ms)
            commands[f"first {state}"] = ("ZRANGE", index, 0, 0, "WITHSCORES")
        answers = await self._all(commands)
        ledger.clock.hear(mark, _server_ms(answers["time"]))
        try:
            return _snapshot(answers)
        except (ValueError, KeyError, TypeError) as exc:
            raise LedgerFormatError(
                f"the ledger {keys.namespace} holds figures that this version cannot read"
            ) from exc

    async def _hear_the_time(self) -> None:
        mark = self._ledger.clock.mark()
        self._ledger.clock.hear(mark, _server_ms(await self._ledger.connection.command("TIME")))
        self._knows_the_time = True

    async def _all(self, commands: Mapping[str, tuple[object, ...]]) -> dict[str, Any]:
        connection = self._ledger.connection
        answers = await connection.pipelined(list(commands.values()))
        for answer in answers:
            if isinstance(answer, Exception):
                raise connection.translated(answer)
        return dict(zip(commands, answers, strict=True))


def _snapshot(answers: Mapping[str, Any]) -> Snapshot:
    now = from_ms(_server_ms(answers["time"]))
    started, written_as = answers["facts"]
    held = first_score(answers["held"])
    found = {name: as_mapping(answers[name]) for name in HASHES}
    return Snapshot(
        now=now,
        format=int(written_as) if written_as else None,
        started_at=from_ms(int(started)) if started else None,
        states={state: answers[f"in {state}"] + int(found["groups"].get(state, 0)) for state in State},
        due={s: _due(answers[f"due {s}"], first_score(answers[f"first {s}"]), now) for s in WORKED_OFF},
        held_for=max(timedelta(0), now - held) if held else None,
        waiting=answers["waiting"],
        tracked=answers["tracked"],
        gate=read_gate(found["gate"], now),
        groups=_counts(found["groups"], Group.parse),
        verdicts=_counts(found["verdicts"], Verdict.parse),
        names=found["names"],
        events=_counts(found["counters"], str),
        calls=read_calls(found["calls"]),
        ticks={job: read_tick(text) for job, text in found["ticks"].items()},
        breakers={key: load_breaker(text) for key, text in found["breakers"].items()},
        alerting=_alerting(answers["alerts"]),
    )


def _server_ms(time: Sequence[Any]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000


def _due(count: int, first: datetime | None, now: datetime) -> Due:
    return Due(count, max(timedelta(0), now - first)) if first and count else Due()


def _alerting(memory: str | None) -> Alerting | None:
    try:
        known = _MEMORY.validate_json(memory) if memory else None
    except ValidationError:
        return None  # alerts begin anew then; the other figures are as good as ever
    return Alerting(known.turned_at, len(known.outbox)) if known else None


def _counts(stored: Mapping[str, str], parse: Callable[[str], T]) -> dict[T, int]:
    """Return counts by what their fields mean; fields that this version does not know are passed over."""
    found: dict[T, int] = {}
    for name, count in stored.items():
        try:
            found[parse(name)] = int(count)
        except ValueError:
            continue
    return found
