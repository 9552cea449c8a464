"""Finding lineages by what they are: counted and paged through by their groups, without reading a record.

A filter chooses among the groups (`groups`), and the indexes of those are merged lazily. What an answer costs
goes by how many groups there are and how many lineages it has, not by how many the ledger holds. Changes
nothing. Must not know how a filter is asked for or a lineage is shown.
"""

from __future__ import annotations

import base64
import binascii
import json
from bisect import insort
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple

from worker.domain.lineage import Lineage, State
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.errors import LedgerError
from worker.ledger.gate import as_mapping
from worker.ledger.groups import Group
from worker.ledger.ledger import Ledger
from worker.ledger.records import FORMAT
from worker.ledger.scripts import Call, run_all, script

READ_AT_ONCE = 500
"""Records asked for in one command, and the most that one index is asked for at once."""
MOST_READY = 16_000
"""Members of all indexes together that are kept ready while everything is walked through."""
_FEWEST = 4
_MOST_ATTEMPTS = 9999


class UngroupedError(LedgerError):
    """An older version wrote this ledger, and not every lineage is in its group yet."""

    def __init__(self) -> None:
        super().__init__(
            "an older version wrote this ledger, and its lineages are not all sorted into groups yet: "
            "a worker of this version does that by itself within its first minutes"
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lineages are meant: those for which everything that is said holds.

    Attributes:
        states: any of them; empty = all.
        workflows: any of them, each a uuid or a name with `*` and `?` in any case; empty = all.
        reasons: any of them, each with `*` and `?`; empty = all.
        attempts_min, attempts_max: clones that we made.
        since, until: when it came into its state: at `since` or later, before `until`.
    """

    states: tuple[State, ...] = ()
    workflows: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    attempts_min: int | None = None
    attempts_max: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, group: Group, name: str) -> bool:
        """Whether lineages of a group are meant, as far as that is not a matter of time.

        `name` is the workflow's.
        """
        return (
            (not self.states or group.state in self.states)
            and (not self.workflows or any(_is_called(each, group.workflow, name) for each in self.workflows))
            and (not self.reasons or any(_matches(group.reason, each) for each in self.reasons))
            and (self.attempts_min is None or group.attempts >= self.attempts_min)
            and (self.attempts_max is None or group.attempts <= self.attempts_max)
        )

    def matches(self, lineage: Lineage) -> bool:
        """Whether a lineage is meant, by its record."""
        in_time = (self.since is None or lineage.since >= self.since) and (
            self.until is None or lineage.since < self.until
        )
        return in_time and self.takes(Group.of(lineage), lineage.workflow_name)

    @property
    def is_timed(self) -> bool:
        """Whether it says when."""
        return self.since is not None or self.until is not None


class By(StrEnum):
    """In which order lineages are found. All but the first two are newest first among equals."""

    NEWEST = "newest"
    """By when they came into their state, the last first."""
    OLDEST = "oldest"
    STATE = "state"
    """In the order of the life cycle."""
    WORKFLOW = "workflow"
    """By its name."""
    REASON = "reason"
    ATTEMPTS = "attempts"
    """Most first."""


class Cursor(NamedTuple):
    """A place in an order: the last lineage of a page. It stays valid whatever moves meanwhile.

    Attributes:
        by: the order.
        bucket: what lineages are ordered by before their time; "" where that is nothing.
        at_ms: since when the lineage was in its state.
    """

    by: str
    bucket: str
    at_ms: int
    root: str

    def __str__(self) -> str:
        """Return it as one word that a person can paste."""
        return base64.urlsafe_b64encode(json.dumps(self).encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor that a word means; raises ValueError when it means none."""
        try:
            by, bucket, at_ms, root = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, TypeError, binascii.Error, RecursionError):
            raise ValueError("is no place in a list") from None
        whole = isinstance(at_ms, int) and not isinstance(at_ms, bool)
        if not (whole and isinstance(bucket, str) and isinstance(root, str)):
            raise ValueError("is no place in a list")
        return cls(By(by).value, bucket, at_ms, root)


class Found(NamedTuple):
    """A lineage that was found.

    Attributes:
        at: since when it was in its state.
        group: what was known of it then.
    """

    root: str
    at: datetime
    group: Group


@dataclass(frozen=True, slots=True)
class Page:
    """Lineages in order.

    Attributes:
        next: where the next page begins (`after` of the next call); None after the last one.
    """

    found: tuple[Found, ...]
    next: Cursor | None

    @property
    def roots(self) -> list[str]:
        """Their roots."""
        return [each.root for each in self.found]


class Listing:
    """Finds lineages in one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def counts(self, wanted: Filter) -> list[tuple[Group, int]]:
        """Return how many lineages of each group are meant, the largest first.

        Raises:
            UngroupedError: not all can be counted yet.
        """
        groups, _ = await self._groups(wanted)
        if wanted.is_timed and groups:
            since, until = _bounds(wanted)
            commands = [
                ("ZCOUNT", self._ledger.keys.group(each.field), since, f"({until}") for each in groups
            ]
            answers = await self._ledger.connection.pipelined(commands)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise self._ledger.connection.translated(answer)
            groups = dict(zip(groups, answers, strict=True))
        found = [(group, count) for group, count in groups.items() if count > 0]
        return sorted(found, key=lambda each: (-each[1], each[0]))

    async def find(
        self, wanted: Filter, *, by: By = By.NEWEST, after: Cursor | None = None, limit: int
    ) -> Page:
        """Return up to `limit` lineages in an order.

        Pages never have a lineage twice nor leave one out, unless it moved from one place of the order to
        another meanwhile.

        Args:
            wanted: which.
            by: the order.
            after: the `next` of the page before; None for the first one.
            limit: how many at most.

        Raises:
            UngroupedError: not all can be found yet.
            ValueError: the cursor is of another order.
        """
        found: list[tuple[str, Found]] = []
        for bucket, groups in await self._buckets(wanted, by, after):
            left = limit + 1 - len(found)
            merge = _Merge(self._ledger, wanted, groups, _behind(after, bucket), by, ahead=left)
            found += [(bucket, each) for each in await merge.take(left)]
            if len(found) > limit:
                place = _place(by, *found[limit - 1])
                return Page(tuple(each for _, each in found[:limit]), place)
        return Page(tuple(each for _, each in found), None)

    async def walk(
        self, wanted: Filter, *, by: By = By.OLDEST, after: Cursor | None = None
    ) -> AsyncIterator[Page]:
        """Yield all lineages in an order, in pages that are not empty: cheaper than `find` again and again.

        What goes into a group that was empty at the beginning is not found; the `next` of the last page,
        unlike that of `find`, is where another walk goes on.

        Raises:
            UngroupedError: not all can be found yet.
        """
        for bucket, groups in await self._buckets(wanted, by, after):
            merge = _Merge(self._ledger, wanted, groups, _behind(after, bucket), by)
            while found := await merge.take(READ_AT_ONCE):
                yield Page(tuple(found), _place(by, bucket, found[-1]))

    async def read(self, page: Page) -> list[Lineage]:
        """Return the records of a page, in its order, without those that moved on or cannot be read."""
        lineages: list[Lineage] = []
        for start in range(0, len(page.found), READ_AT_ONCE):
            part = page.found[start : start + READ_AT_ONCE]
            records = await self._ledger.read([each.root for each in part])
            for each in part:
                record = records.get(each.root)
                if isinstance(record, Lineage) and Group.of(record).field == each.group.field:
                    lineages.append(record)
        return lineages

    async def names(self) -> dict[str, str]:
        """Return what workflows are called, by what they are counted under."""
        return as_mapping(await self._ledger.connection.command("HGETALL", self._ledger.keys.names))

    async def _buckets(self, wanted: Filter, by: By, after: Cursor | None) -> list[tuple[str, list[Group]]]:
        """Return the groups that are meant, by what lineages are ordered by before their time."""
        if after and after.by != by:
            raise ValueError(f"is a place in the order by {after.by}")
        groups, names = await self._groups(wanted)
        buckets: dict[str, list[Group]] = {}
        for group in groups:
            buckets.setdefault(_bucket(by, group, names), []).append(group)
        return sorted(
            (bucket, each) for bucket, each in buckets.items() if not after or bucket >= after.bucket
        )

    async def _groups(self, wanted: Filter) -> tuple[dict[Group, int], dict[str, str]]:
        """Return the groups that are meant, with how many are in them, and the names of workflows."""
        keys, connection = self._ledger.keys, self._ledger.connection
        answers = await connection.pipelined(
            [
                ("HMGET", keys.facts, "started_at", "grouped"),
                ("HGETALL", keys.groups),
                ("HGETALL", keys.names),
            ]
        )
        for answer in answers:
            if isinstance(answer, Exception):
                raise connection.translated(answer)
        (started_at, grouped), counts, names = answers[0], as_mapping(answers[1]), as_mapping(answers[2])
        if started_at and int(grouped or 0) < FORMAT:
            raise UngroupedError
        groups = {}
        for text, count in counts.items():
            try:
                group = Group.parse(text)
            except ValueError:  # of a newer version
                continue
            if wanted.takes(group, names.get(group.workflow, "")):
                groups[group] = int(count)
        return groups, names


@dataclass(slots=True)
class _Run:
    """One index on its way.

    Attributes:
        ready: what was read of it and is not taken yet, the next one last.
        last: the one after which it is read on.
        size: how many are read at once.
        ended: whether there is nothing more to read.
    """

    group: Group
    last: tuple[int, str] | None
    ready: list[tuple[int, str]] = field(default_factory=list)
    size: int = 1
    ended: bool = False


class _Merge:
    """Takes lineages from several indexes in one order.

    `ahead` is how many will be taken at most; None = all that there are.
    """

    def __init__(
        self,
        ledger: Ledger,
        wanted: Filter,
        groups: Sequence[Group],
        after: Cursor | None,
        by: By,
        *,
        ahead: int | None = None,
    ) -> None:
        self._ledger = ledger
        self._bounds = _bounds(wanted)
        self._newest = by is not By.OLDEST
        start = (after.at_ms, after.root) if after else None
        self._runs = [_Run(group, start) for group in groups]
        self._ahead = ahead
        self._heads: list[tuple[tuple[int, str], int]] | None = None

    async def take(self, count: int) -> list[Found]:
        """Return the next `count`, fewer at the end. The indexes are read as far as that needs."""
        if self._heads is None:
            await self._begin()
            self._heads = sorted((run.ready[-1], i) for i, run in enumerate(self._runs) if run.ready)
        heads = self._heads
        taken: list[Found] = []
        while heads and len(taken) < count:
            (at_ms, root), number = heads.pop() if self._newest else heads.pop(0)
            run = self._runs[number]
            run.ready.pop()
            taken.append(Found(root, from_ms(at_ms), run.group))
            if not run.ready and not run.ended and (self._ahead is None or len(taken) < count):
                await self._read_on([run])
            if run.ready:
                insort(heads, (run.ready[-1], number))
        return taken

    async def _begin(self) -> None:
        """Make something ready of every index that can have a place among those that will be taken."""
        if self._ahead is None:
            size = MOST_READY // max(1, len(self._runs))
        else:
            # One whose own first comes after the firsts of `ahead` others has none: there may be thousands.
            firsts = await self._ask([(run, 1) for run in self._runs])
            heads = sorted((found[0], number) for number, found in enumerate(firsts) if found)
            heads = heads[-self._ahead :] if self._newest else heads[: self._ahead]
            self._runs = [self._runs[number] for _, number in heads]
            size = 2 * self._ahead // max(1, len(self._runs))
        for run in self._runs:
            run.size = min(max(_FEWEST, size), READ_AT_ONCE)
        await self._read_on(self._runs)

    async def _read_on(self, runs: Sequence[_Run]) -> None:
        for run, found in zip(runs, await self._ask([(run, run.size) for run in runs]), strict=True):
            run.ready = found[::-1]
            run.ended = len(found) < run.size
            run.last = found[-1] if found else run.last

    async def _ask(self, wanted: Sequence[tuple[_Run, int]]) -> list[list[tuple[int, str]]]:
        """Return the next so many of each index, in one round trip."""
        since, until = self._bounds
        direction = "newest" if self._newest else "oldest"
        calls = []
        for run, count in wanted:
            after: tuple[int | str, str] = run.last or ("", "")
            key = self._ledger.keys.group(run.group.field)
            calls.append(Call(script("page"), [key], [direction, count, since, until, *after]))
        found = []
        for answer in await run_all(self._ledger.connection, calls) if calls else []:
            if isinstance(answer, Exception):
                raise answer
            found.append([(int(float(answer[i + 1])), answer[i]) for i in range(1, len(answer), 2)])
        return found


def _place(by: By, bucket: str, last: Found) -> Cursor:
    return Cursor(by.value, bucket, to_ms(last.at), last.root)


def _behind(after: Cursor | None, bucket: str) -> Cursor | None:
    return after if after and after.bucket == bucket else None


def _bounds(wanted: Filter) -> tuple[int | str, int | str]:
    since = "-inf" if wanted.since is None else to_ms(wanted.since)
    return since, "+inf" if wanted.until is None else to_ms(wanted.until)


def _is_called(wanted: str, key: str, name: str) -> bool:
    return key == wanted or _matches(name, wanted)


def _matches(text: str, pattern: str) -> bool:
    return fnmatchcase(text.casefold(), pattern.casefold())


def _bucket(by: By, group: Group, names: Mapping[str, str]) -> str:
    buckets: Mapping[By, Callable[[], str]] = {
        By.STATE: lambda: f"{list(State).index(group.state):02}",
        By.WORKFLOW: lambda: f"{names.get(group.workflow, '').casefold()}\n{group.workflow}",
        By.REASON: lambda: group.reason,
        By.ATTEMPTS: lambda: f"{max(0, _MOST_ATTEMPTS - group.attempts):04}",
    }
    return buckets[by]() if by in buckets else ""
