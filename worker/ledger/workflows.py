"""What the ledger knows of workflows: how runs ended, breakers, clones made, and who waits for them.

Counting happens in the same step as the commits that it counts (`lua/commit.lua`); what follows from the
counts is worked out in `worker.domain.admission`, and held against them once more when an intent is recorded.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.domain.breaker import UNTOUCHED, Breaker, Forced, Mode
from worker.domain.budget import PACE_WINDOW, Usage
from worker.domain.health import Ended, Run
from worker.domain.lineage import FLYING_STATES, Lineage, State
from worker.domain.watching import MOST_LENGTHS
from worker.ledger.clock import ServerClock, from_ms, to_ms, whole_ms
from worker.ledger.connection import Connection
from worker.ledger.gate import as_mapping
from worker.ledger.keys import Keys
from worker.ledger.packing import compact_fields
from worker.ledger.scripts import Call, run, run_all, script

MOST_RUNS = 200
SPAN = timedelta(minutes=1)
SPAN_OF_ALL = timedelta(seconds=5)
"""So long are the spans at whose beginnings clones are summed up (`lua/prelude.lua`)."""
REMEMBER_COMPLETED = timedelta(hours=1)
"""How long a completed run is remembered to be counted once; one that is noticed later is not counted at
all."""
KEEP_LENGTHS = timedelta(days=7)
"""How long it is known how long the runs of a workflow take that does not run any more."""
SURVEY = "survey"
"""The job that reads what completed. Its memory says up to when that is known: see `read_through`."""
MOST_WAITED_FOR = 100
"""Workflows looked at in one turn; the next turn goes on behind them."""
_SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one workflow.

    Attributes:
        breaker: as it is stored.
        runs: that ended lately, the oldest first.
        usage: its counts, and those of all workflows.
        surveyed_at: up to when completed runs are known as well as failed ones; None when that is not known
            any more.
        lengths: how long its newest runs took, in no order.
    """

    breaker: Breaker
    runs: tuple[Run, ...]
    usage: Usage
    surveyed_at: datetime | None = None
    lengths: tuple[timedelta, ...] = ()


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run took.

    Attributes:
        workflow: what it is counted under.
        uuid: of the run.
        took: from when it was made to its end, the time in a queue included.
    """

    workflow: str
    uuid: str
    ended_at: datetime
    took: timedelta


@dataclass(frozen=True, slots=True)
class Waiting:
    """A lineage that waits for its workflow to have room.

    Attributes:
        member: its place in the index.
    """

    member: str
    workflow: str
    failed_at: datetime
    root: str


@dataclass(frozen=True, slots=True)
class BreakerTold:
    """A breaker's change, as it is stored and told."""

    workflow: str
    before: Breaker
    after: Breaker
    event: str
    facts: Mapping[str, str | int | float | bool | None]


class Workflows:
    """Reads and changes what is known of workflows."""

    def __init__(self, connection: Connection, keys: Keys, clock: ServerClock, events_maxlen: int) -> None:
        self._connection = connection
        self._keys = keys
        self._clock = clock
        self._events_maxlen = events_maxlen

    async def look(
        self, workflows: Iterable[str], window: timedelta, pauses: Mapping[str, timedelta] | None = None
    ) -> dict[str, Known]:
        """Return what is known of those workflows, in one round trip.

        Args:
            workflows: what they are counted under (`Lineage.workflow`).
            window: over which runs and clones are counted.
            pauses: of the workflows' breakers, the longest: a clone in flight for longer is no longer tried.
        """
        names = list(dict.fromkeys(workflows))
        if not names:
            return {}
        keys = self._keys
        now = self._clock.now()
        of_all = (keys.made, keys.made_sums, SPAN_OF_ALL)
        commands: list[tuple[Any, ...]] = [
            ("HMGET", keys.breakers, *names),
            ("HGETALL", keys.traffic),
            *_count_made(*of_all, now - window),
            *_count_made(*of_all, now - PACE_WINDOW),
            ("HGET", keys.job(SURVEY), "memory"),
            *(("ZCARD", keys.state(state)) for state in FLYING_STATES),
        ]
        for name in names:
            commands += [
                ("ZRANGE", keys.runs(name), -MOST_RUNS, -1, "WITHSCORES"),
                ("HGETALL", keys.traffic_of(name)),
                *_count_made(keys.made_of(name), keys.made_sums_of(name), SPAN, now - window),
                ("ZCARD", keys.flight(name)),
                ("ZCOUNT", keys.flight(name), to_ms(now - (pauses or {}).get(name, window)), "+inf"),
                ("ZRANGE", keys.lengths(name), 0, -1),
            ]
        breakers, traffic, *counts, surveyed = (answers := await self._all(commands))[:9]
        all_made, made_lately, rest = _made(counts[:3]), _made(counts[3:]), answers[9:]
        surveyed_at = _surveyed_at(surveyed, now)
        in_flight, of_each = sum(rest[: len(FLYING_STATES)]), rest[len(FLYING_STATES) :]
        all_runs, busiest = _traffic(traffic, now - window)
        found = {}
        for position, name in enumerate(names):
            runs, own_traffic, *counts, flying, trying, lengths = of_each[position * 8 : position * 8 + 8]
            usage = Usage(
                runs=_traffic(own_traffic, now - window)[0],
                all_runs=all_runs,
                busiest=busiest,
                made=_made(counts),
                all_made=all_made,
                made_lately=made_lately,
                in_flight=flying,
                all_in_flight=in_flight,
                trying=trying,
            )
            breaker = load_breaker(breakers[position])
            found[name] = Known(breaker, _runs(runs), usage, surveyed_at, tuple(map(_took, lengths)))
        return found

    async def breakers(self) -> dict[str, Breaker]:
        """Return every breaker that is not untouched, by workflow."""
        stored = as_mapping(await self._connection.command("HGETALL", self._keys.breakers))
        return {workflow: load_breaker(text) for workflow, text in sorted(stored.items())}

    async def store(self, told: BreakerTold) -> bool:
        """Store a breaker and say so in the stream; False when someone else changed it meanwhile."""
        keys = self._keys
        arguments: list[str | int] = [
            told.workflow,
            told.before.version,
            dump_breaker(told.after),
            self._events_maxlen,
            told.event,
            compact_fields(told.facts),
        ]
        call = Call(script("set_breaker"), [keys.breakers, keys.events, keys.counters], arguments)
        mark = self._clock.mark()
        now_ms, stored = await run(self._connection, call)
        self._clock.hear(mark, now_ms)
        return bool(stored)

    async def note_completed(self, runs: Iterable[tuple[str, str, datetime]]) -> int:
        """Take in runs that completed: workflow, uuid and when. Each counts once.

        Returns:
            how many were new.
        """
        by_workflow: defaultdict[str, list[str | int]] = defaultdict(list)
        for workflow, uuid, ended_at in runs:
            by_workflow[workflow] += [uuid, to_ms(ended_at)]
        keys, remember_ms = self._keys, whole_ms(REMEMBER_COMPLETED)
        calls = [
            Call(
                script("note_runs"),
                [keys.runs(name), keys.traffic_of(name), keys.traffic, keys.surveyed],
                [Ended.COMPLETED.value, remember_ms, *told],
            )
            for name, told in by_workflow.items()
        ]
        answers = await run_all(self._connection, calls) if calls else []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return sum(answer[1] for answer in answers)

    async def note_lengths(self, lengths: Iterable[Length]) -> None:
        """Take in how long runs took, in one round trip; of each workflow the newest are kept."""
        by_workflow: defaultdict[str, list[Length]] = defaultdict(list)
        for each in lengths:
            by_workflow[each.workflow].append(each)
        commands: list[Sequence[Any]] = []
        for workflow, told in by_workflow.items():
            newest = sorted(told, key=lambda each: each.ended_at)[-MOST_LENGTHS:]
            pairs = [item for each in newest for item in (to_ms(each.ended_at), _length_member(each))]
            key = self._keys.lengths(workflow)
            commands += [
                ("ZADD", key, *pairs),
                ("ZREMRANGEBYRANK", key, 0, -MOST_LENGTHS - 1),
                ("PEXPIRE", key, whole_ms(KEEP_LENGTHS)),
            ]
        if commands:
            await self._all(commands)

    async def waiting(self, of_each: int, after: str = "") -> list[Waiting]:
        """Return lineages that wait: of some workflows, the `of_each` that failed first.

        Args:
            of_each: how many of each workflow at most.
            after: the workflow after which to begin, by name; nothing is returned when it is the last one.
        """
        arguments: list[str | int] = [MOST_WAITED_FOR, of_each, f"({after}{_SEPARATOR}\xff" if after else "-"]
        call = Call(script("waiting"), [self._keys.waiting], arguments)
        mark = self._clock.mark()
        now_ms, *members = await run(self._connection, call)
        self._clock.hear(mark, now_ms)
        return [_waiting(member) for member in members]

    async def count_waiting(self) -> int:
        """Return how many lineages wait for their workflow."""
        count: int = await self._connection.command("ZCARD", self._keys.waiting)
        return count

    async def park(self, lineages: Sequence[Lineage], times: Mapping[str, datetime]) -> None:
        """Let lineages wait for their workflow: hidden until they are released, or their time (by root)."""
        calls = [
            Call(
                script("park"),
                [self._keys.lineage(each.root), self._keys.state(State.SCHEDULED), self._keys.waiting],
                [each.version, each.root, to_ms(times[each.root]), waiting_member(each)],
            )
            for each in lineages
        ]
        for answer in await run_all(self._connection, calls) if calls else []:
            if isinstance(answer, Exception):
                raise answer

    async def release(self, waiting: Sequence[Waiting]) -> None:
        """Let lineages go that waited: they are due now. One that no longer waits is not touched."""
        if waiting:
            now = to_ms(self._clock.now())
            pairs = [item for each in waiting for item in (now, each.root)]
            await self._all(
                [
                    ("ZADD", self._keys.state(State.SCHEDULED), "XX", *pairs),
                    ("ZREM", self._keys.waiting, *(each.member for each in waiting)),
                ]
            )

    async def _all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        answers = await self._connection.pipelined(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._connection.translated(answer)
        return answers


def waiting_member(lineage: Lineage) -> str:
    """Return a lineage's place in the index of those that wait: by workflow, and by when it failed last."""
    workflow = lineage.workflow.replace(_SEPARATOR, " ")
    return _SEPARATOR.join((workflow, f"{to_ms(lineage.last_failed_at):015d}", lineage.root))


def _waiting(member: str) -> Waiting:
    workflow, failed_ms, root = member.split(_SEPARATOR, 2)
    return Waiting(member, workflow, from_ms(int(failed_ms)), root)


def _length_member(length: Length) -> str:
    return f"{whole_ms(length.took)}{_SEPARATOR}{length.uuid}"


def _took(member: str) -> timedelta:
    return timedelta(milliseconds=int(member.partition(_SEPARATOR)[0]))


def dump_breaker(breaker: Breaker) -> str:
    """Return a breaker as it is stored."""
    written = {
        "version": breaker.version,
        "mode": breaker.mode.value,
        "since": breaker.since and to_ms(breaker.since),
        "trouble_since": breaker.trouble_since and to_ms(breaker.trouble_since),
        "canaries_failed": breaker.canaries_failed or None,
        "tried_at": breaker.tried_at and to_ms(breaker.tried_at),
        "forced": breaker.forced and breaker.forced.value,
        "forced_until": breaker.forced_until and to_ms(breaker.forced_until),
        "detail": breaker.detail,
        "workflow": breaker.workflow_uuid,
        "workflow_name": breaker.workflow_name,
    }
    return json.dumps({key: value for key, value in written.items() if value not in (None, "")})


def load_breaker(text: str | None) -> Breaker:
    """Return a breaker from what is stored; an untouched one where there is nothing."""
    if not text:
        return UNTOUCHED
    stored = json.loads(text)
    forced = stored.get("forced")
    return Breaker(
        mode=Mode(stored["mode"]),
        since=_moment(stored.get("since")),
        trouble_since=_moment(stored.get("trouble_since")),
        canaries_failed=stored.get("canaries_failed", 0),
        tried_at=_moment(stored.get("tried_at")),
        forced=Forced(forced) if forced else None,
        forced_until=_moment(stored.get("forced_until")),
        detail=stored.get("detail", ""),
        version=stored["version"],
        workflow_uuid=stored.get("workflow", ""),
        workflow_name=stored.get("workflow_name", ""),
    )


def read_through(began_at: datetime, *, fresh_until: datetime) -> dict[str, int]:
    """Return what the survey remembers of a reading that tells, and for how long it does."""
    return {"surveyed_at": to_ms(began_at), "fresh_until": to_ms(fresh_until)}


def _surveyed_at(memory: str | None, now: datetime) -> datetime | None:
    """Return up to when completed runs are known, from the survey's memory; None when it is out of date."""
    try:
        stored = json.loads(memory or "{}")
        fresh = stored["fresh_until"] > to_ms(now)
        return from_ms(stored["surveyed_at"]) if fresh else None
    except (KeyError, TypeError, ValueError):
        return None  # the memory of an older version, or none


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else from_ms(milliseconds)


def _count_made(in_doubt: str, sums: str, span: timedelta, since: datetime) -> list[tuple[Any, ...]]:
    """Return the commands from whose answers `_made` counts clones, as `lua/prelude.lua` does."""
    return [
        ("ZCOUNT", in_doubt, to_ms(since), "+inf"),
        ("ZRANGE", sums, -1, -1),
        ("ZRANGE", sums, to_ms(since - span), "-inf", "BYSCORE", "REV", "LIMIT", 0, 1),
    ]


def _made(answers: Sequence[Any]) -> int:
    in_doubt, newest, before = answers
    return int(in_doubt) + sum(map(int, newest)) - sum(map(int, before))


def _traffic(answer: object, since: datetime) -> tuple[int, int]:
    """Return how many runs ended since then, and the most of them in any five minutes."""
    bucket_ms = whole_ms(PACE_WINDOW)
    counted = [int(n) for at, n in as_mapping(answer).items() if (int(at) + 1) * bucket_ms > to_ms(since)]
    return sum(counted), max(counted, default=0)


def _runs(answer: Sequence[Any]) -> tuple[Run, ...]:
    """Return runs from ZRANGE's answer: pairs with RESP3, a flat list with RESP2."""
    pairs = (
        answer
        if answer and isinstance(answer[0], (list, tuple))
        else zip(answer[::2], answer[1::2], strict=True)
    )
    return tuple(Run(from_ms(float(at)), Ended(member[0])) for member, at in pairs)
