"""The ledger: what the worker remembers, and the only way to change it.

`Ledger` owns the lineages and their indexes; gate and jobs hang off it. Reading for people (lists,
counts, stories) is in `reports`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from worker.domain.lineage import DOUBTFUL_STATES, Lineage, State
from worker.ledger import records
from worker.ledger.clock import ServerClock, from_ms, to_ms, whole_ms
from worker.ledger.commits import Admission, Commits, Outcome, Rate
from worker.ledger.connection import Connection
from worker.ledger.errors import LedgerFormatError
from worker.ledger.gate import Gate, as_mapping
from worker.ledger.groups import Group, final_state
from worker.ledger.jobs import Jobs, Turn
from worker.ledger.keys import KEY_SEPARATOR, Keys
from worker.ledger.scripts import Call, run, run_all, script
from worker.ledger.workflows import Workflows

if TYPE_CHECKING:
    from worker.domain.transitions import Change

PART = 1000
"""Executions that one call of a script is handed: Lua cannot spread out many more."""
SCAN = 500
"""Members of an index asked for at once."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What was due: members of an index, by the server's clock.

    Attributes:
        members: hidden from other claimers until the claim's time is over.
        remaining: how many more are due.
        gate: `open`, `opening` (fewer were claimed than asked for), or why nothing was: `suspended`, `down`,
            `paused`, or `full` when every place of an opening gate is taken.
        next_in: when the next member falls due, where all that are due were claimed.
    """

    members: tuple[str, ...]
    remaining: int
    gate: str
    next_in: timedelta | None = None


class Ledger:
    """One namespace in one Redis, for one event loop."""

    def __init__(self, connection: Connection, namespace: str, *, events_maxlen: int) -> None:
        self.connection = connection
        self.keys = Keys(namespace)
        self.clock = ServerClock()
        self.gate = Gate(connection, self.keys, self.clock, events_maxlen)
        self.jobs = Jobs(connection, self.keys, self.clock)
        self.workflows = Workflows(connection, self.keys, self.clock, events_maxlen)
        self._commits = Commits(connection, self.keys, self.clock, events_maxlen)

    async def begin(self, up_for: timedelta) -> datetime:
        """Return when the worker was started first, noting it if this is the first time.

        Asked before every reading of the list: a ledger that was lost meanwhile starts anew, and new
        lineages are refused while it differs from what was last heard here.

        `up_for` is how long this process has been trying to reach the ledger for the first time.

        Keys that an older worker named otherwise have their name of today afterwards: a retry that a person
        makes of an older failure is recognised by them from the first reading on.

        Raises:
            LedgerFormatError: the ledger belongs to a newer worker.
        """
        mark = self.clock.mark()
        up_ms = whole_ms(up_for)
        call = Call(script("begin"), [self.keys.facts], [up_ms, records.FORMAT])
        now_ms, started_ms, written_as, keyed = await run(self.connection, call)
        self.clock.hear(mark, now_ms)
        if int(written_as) > records.FORMAT:
            raise LedgerFormatError(
                f"the ledger {self.keys.namespace} has format {written_as}, this worker knows up to "
                f"{records.FORMAT}: start the newer version, or use another LEDGER_NAMESPACE"
            )
        if keyed < records.FORMAT:
            await self.rename_keys()
            await self.connection.command("HSET", self.keys.facts, "keyed", records.FORMAT)
        self._commits.started_ms = started_ms
        return from_ms(started_ms)

    async def commit(
        self, change: Change, *, next_at: datetime | None = None, admission: Admission | None = None
    ) -> Outcome:
        """Store a change, compare-and-set; see `Commits.commit`."""
        return await self._commits.commit(change, next_at=next_at, admission=admission)

    async def claim(
        self,
        state: State,
        *,
        limit: int,
        hide_for: timedelta,
        lease: timedelta = timedelta(0),
        rate: Rate | None = None,
    ) -> Claim:
        """Claim up to `limit` lineages whose time in `state` has come; nothing while the gate is closed.

        Args:
            state: in which they are.
            limit: how many at most.
            hide_for: how long others do not see them; what is not dealt with by then they claim.
            lease: of the retry call that each will get: no more are claimed than an opening gate has places
                for. Zero for everything else.
            rate: of retry calls: no more are claimed than may leave now.
        """
        return await self._claim(self.keys.state(state), limit, hide_for, lease, rate)

    async def read(self, roots: Sequence[str]) -> dict[str, Lineage | LedgerFormatError]:
        """Return the lineages of those roots that have one, in one round trip."""
        if not roots:
            return {}
        raw = await self.connection.command("MGET", *(self.keys.lineage(root) for root in roots))
        return {root: _load(root, text) for root, text in zip(roots, raw, strict=True) if text is not None}

    async def reschedule(self, state: State, times: Mapping[str, datetime]) -> None:
        """Set when lineages in `state` need attention next; those that left the state are not touched."""
        await self._reschedule(self.keys.state(state), times)

    async def count_due(self, state: State) -> int:
        """Return how many lineages' time in `state` has come."""
        index = self.keys.state(state)
        count: int = await self.connection.command("ZCOUNT", index, "-inf", to_ms(self.clock.now()))
        return count

    async def watched(self, uuids: Sequence[str]) -> dict[str, Lineage]:
        """Return the running lineages whose newest run is one of these executions.

        None that runs in place: there an execution may show what it was before it was retried.
        """
        if not uuids:
            return {}
        owners = await self.connection.command("HMGET", self.keys.clones, *uuids)
        roots = list(dict.fromkeys(root for root in owners if root))
        if not roots:
            return {}
        times = await self.connection.command("ZMSCORE", self.keys.state(State.RUNNING), *roots)
        found = await self.read([root for root, time in zip(roots, times, strict=True) if time is not None])
        running = [
            each for each in found.values() if isinstance(each, Lineage) and each.state is State.RUNNING
        ]
        by_run = {each.newest.clone: each for each in running if not each.newest.in_place}
        return {uuid: by_run[uuid] for uuid in uuids if uuid in by_run}

    async def owners(self, uuids: Sequence[str]) -> dict[str, str]:
        """Return the root of each execution that belongs to a lineage, in one round trip.

        An undated execution that was dealt with before counts as its own root.
        """
        if not uuids:
            return {}
        lookups: list[Sequence[str]] = [("EXISTS", self.keys.lineage(uuid)) for uuid in uuids]
        lookups += [("HMGET", self.keys.clones, *uuids), ("SMISMEMBER", self.keys.undated, *uuids)]
        *roots, clones, undated = await self._all(lookups)
        owners = {}
        for uuid, is_root, root, known in zip(uuids, roots, clones, undated, strict=True):
            if root or is_root or known:
                owners[uuid] = root or uuid
        return owners

    async def strangers(self, turn: Turn, uuids: Sequence[str]) -> tuple[list[str], bool]:
        """Return which executions belong to no lineage, and whether the turn goes on: see `Jobs.extend`.

        One round trip that writes nothing, for whoever reads long lists of what is known.
        """
        fixed = [self.keys.job(turn.job), self.keys.gate, self.keys.clones, self.keys.undated]
        parts = [uuids[start : start + PART] for start in range(0, len(uuids), PART)] or [()]
        calls = [
            Call(
                script("strangers"),
                [*fixed, *map(self.keys.lineage, part)],
                [turn.token, int(turn.calls_api), *part],
            )
            for part in parts
        ]
        mark = self.clock.mark()
        answers = await run_all(self.connection, calls)
        found, goes_on = list[str](), True
        for part, answer in zip(parts, answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            now_ms, may, places = answer
            self.clock.hear(mark, now_ms)
            found += [part[place] for place in places]
            goes_on = goes_on and bool(may)
        return found, goes_on

    async def roots_by_key(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return the newest lineage's root of each key (workflow version, fingerprint), in one round trip."""
        wanted = [key for key in dict.fromkeys(keys) if key[1]]
        if not wanted:
            return {}
        fields = [self.keys.key(*key) for key in wanted]
        roots = await self.connection.command("HMGET", self.keys.keys, *fields)
        return {key: root for key, root in zip(wanted, roots, strict=True) if root}

    async def in_doubt(self) -> list[Lineage]:
        """Return the lineages whose retry call may have made a clone that no record names yet."""
        return await self._that_are(
            DOUBTFUL_STATES, [("ZRANGE", self.keys.state(s), 0, -1) for s in DOUBTFUL_STATES]
        )

    async def held_since(self, moment: datetime) -> list[Lineage]:
        """Return the lineages that were held at `moment` or later, and are."""
        index = self.keys.state(State.HELD)
        return await self._that_are((State.HELD,), [("ZRANGE", index, to_ms(moment), "+inf", "BYSCORE")])

    async def leave_alone(self, uuids: Iterable[str]) -> None:
        """Remember executions without dates that are older than the first start."""
        names = list(uuids)
        if names:
            await self.connection.command("SADD", self.keys.undated, *names)

    async def forget(self, lineages: Sequence[Lineage]) -> int:
        """Forget lineages whose retention is over; return how many went."""
        calls = [
            Call(
                script("forget"),
                [
                    self.keys.lineage(each.root),
                    self.keys.state(each.state),
                    self.keys.clones,
                    self.keys.undated,
                    self.keys.keys,
                    self.keys.groups,
                    self.keys.group(Group.of(each).field),
                ],
                [
                    *(each.version, each.root, int(not each.dated)),
                    self.keys.key(each.workflow_version_uuid, each.fingerprint),
                    Group.of(each).field,
                    *(member for member in each.members if member != each.root),
                ],
            )
            for each in lineages
        ]
        answers = await run_all(self.connection, calls) if calls else []
        return sum(answer[1] for answer in answers if not isinstance(answer, Exception))

    async def ended_before(self, state: State, moment: datetime, limit: int) -> list[str]:
        """Return up to `limit` roots that are in a final state since before `moment`."""
        indexes = await self.indexes(state)
        of_each = max(1, limit // len(indexes))
        found = await self._all(
            [("ZRANGE", index, "-inf", to_ms(moment), "BYSCORE", "LIMIT", 0, of_each) for index in indexes]
        )
        return [root for roots in found for root in roots][:limit]

    async def indexes(self, *states: State) -> list[str]:
        """Return the indexes of the lineages in those states: root → time.

        What has ended is in the indexes of its groups, or where an older worker put it: in that of its state.
        """
        found = [self.keys.state(state) for state in states]
        if any(state.is_final for state in states):
            groups = await self.connection.command("HKEYS", self.keys.groups)
            found += [self.keys.group(field) for field in groups if final_state(field) in states]
        return found

    async def is_grouped(self) -> bool:
        """Return whether every lineage is in its group: not yet where an older worker wrote some of them."""
        done = await self.connection.command("HGET", self.keys.facts, "grouped")
        return done is not None and int(done) >= records.FORMAT

    async def scan(self, state: State) -> AsyncIterator[list[str]]:
        """Yield the roots in a state in pages, in no order; one that stays in it comes at least once."""
        cursor: int | str = 0
        while True:
            cursor, found = await self.connection.command(
                "ZSCAN", self.keys.state(state), cursor, "COUNT", SCAN
            )
            yield [root for root, _ in pairs_in(found)]
            if int(cursor) == 0:
                return

    async def regroup(self, lineages: Sequence[Lineage]) -> int:
        """Put lineages that an older worker wrote into their groups, and their records into this format.

        What moved on since is in its group already. An older worker that still holds such a record can
        neither store what it made of it nor read it again.

        Returns:
            how many there were.
        """
        calls = [
            Call(
                script("regroup"),
                [
                    self.keys.lineage(each.root),
                    self.keys.groups,
                    self.keys.group(Group.of(each).field),
                    self.keys.names,
                    self.keys.state(each.state),
                ],
                [
                    *(each.version, each.root, Group.of(each).field, to_ms(each.since)),
                    *(each.workflow, each.workflow_name or each.workflow_uuid),
                    records.stored(replace(each, version=each.version + 1), secrets.token_urlsafe(6)),
                    *(records.FORMAT, int(each.state.is_final)),
                ],
            )
            for each in lineages
        ]
        answers = await run_all(self.connection, calls) if calls else []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return sum(answer[1] for answer in answers)

    async def rename_keys(self) -> int:
        """Name keys by their digests that an older worker wrote; return how many there were."""
        cursor: int | str = 0
        renamed = 0
        while True:
            cursor, found = await self.connection.command("HSCAN", self.keys.keys, cursor, "COUNT", SCAN)
            old = [field for field in as_mapping(found) if KEY_SEPARATOR in field]
            if old:
                names = [name for field in old for name in (field, self.keys.digest(field))]
                renamed += await run(self.connection, Call(script("rename_keys"), [self.keys.keys], names))
            if int(cursor) == 0:
                return renamed

    async def grouped(self) -> None:
        """Note that every lineage is in its group."""
        await run(
            self.connection,
            Call(script("grouped"), [self.keys.groups, self.keys.facts], [records.FORMAT]),
        )

    async def track(self, uuids: Sequence[str]) -> int:
        """Put executions under watch by name, due at once; return how many were new."""
        if not uuids:
            return 0
        now = to_ms(self.clock.now())
        looks = [item for uuid in uuids for item in (0, uuid)]
        commands = [("HSETNX", self.keys.tracked_since, uuid, now) for uuid in uuids]
        *_, added = await self._all([*commands, ("ZADD", self.keys.tracked, "NX", *looks)])
        return int(added)

    async def tracked_since(self, uuid: str) -> datetime | None:
        """Return since when an execution is watched by name; None when it is not."""
        since = await self.connection.command("HGET", self.keys.tracked_since, uuid)
        return from_ms(int(since)) if since else None

    async def claim_tracked(self, *, limit: int, hide_for: timedelta) -> Claim:
        """Claim executions watched by name whose next look is due."""
        return await self._claim(self.keys.tracked, limit, hide_for, timedelta(0))

    async def look_again(self, times: Mapping[str, datetime]) -> None:
        """Set when executions watched by name are looked at next."""
        await self._reschedule(self.keys.tracked, times)

    async def untrack(self, uuids: Sequence[str]) -> None:
        """Stop watching executions by name."""
        if uuids:
            await self._all([("ZREM", self.keys.tracked, *uuids), ("HDEL", self.keys.tracked_since, *uuids)])

    async def known_executions(self) -> list[str]:
        """Return a few executions that the API knew when seen last: the newest two of each state."""
        return [root for state in State for root in await self._newest(state, 2)]

    async def _newest(self, state: State, count: int) -> list[str]:
        found = await self._all(
            [("ZRANGE", index, -count, -1, "WITHSCORES") for index in await self.indexes(state)]
        )
        pairs = [pair for answer in found for pair in pairs_in(answer)]
        return [root for root, _ in sorted(pairs, key=lambda pair: pair[1])[-count:]]

    async def aclose(self) -> None:
        """Close the connection."""
        await self.connection.aclose()

    async def _claim(
        self, index: str, limit: int, hide_for: timedelta, lease: timedelta, rate: Rate | None = None
    ) -> Claim:
        mark = self.clock.mark()
        keys = [index, self.keys.gate, self.keys.state(State.SUBMITTING), self.keys.rate]
        arguments: list[int | float] = [limit, whole_ms(hide_for), whole_ms(lease)]
        arguments += [rate.per_second, rate.burst] if rate else [0, 0]
        call = Call(script("claim"), keys, arguments)
        now_ms, gate, remaining, next_ms, *members = await run(self.connection, call)
        self.clock.hear(mark, now_ms)
        next_in = timedelta(milliseconds=next_ms) if next_ms >= 0 else None
        return Claim(tuple(members), remaining, gate, next_in)

    async def _reschedule(self, index: str, times: Mapping[str, datetime]) -> None:
        pairs = [item for member, moment in times.items() for item in (to_ms(moment), member)]
        if pairs:
            await self.connection.command("ZADD", index, "XX", *pairs)

    async def _that_are(self, states: Sequence[State], queries: Sequence[Sequence[object]]) -> list[Lineage]:
        roots = [root for found in await self._all(queries) for root in found]
        lineages = (await self.read(roots)).values()
        return [each for each in lineages if isinstance(each, Lineage) and each.state in states]

    async def _all(self, commands: Sequence[Sequence[object]]) -> list[Any]:
        answers = await self.connection.pipelined(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise self.connection.translated(answer)
        return answers


def pairs_in(answer: Sequence[Any]) -> list[tuple[str, float]]:
    """Return members and scores: an answer has pairs with RESP3, and is a flat list with RESP2."""
    pairs = (
        answer
        if answer and isinstance(answer[0], (list, tuple))
        else zip(answer[::2], answer[1::2], strict=True)
    )
    return [(str(member), float(score)) for member, score in pairs]


def _load(root: str, text: str) -> Lineage | LedgerFormatError:
    try:
        return records.load(root, text)
    except LedgerFormatError as error:
        return error
