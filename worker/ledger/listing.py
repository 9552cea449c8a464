"""Finding lineages by what they are: counted and paged through by their groups, without reading a record.

A filter chooses among the groups (`groups`), and the indexes of those are merged lazily. What an answer costs
goes by how many groups there are and how many lineages it has, not by how many the ledger holds. Changes
nothing. Must not know how a filter is asked for or a lineage is shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from worker.domain.lineage import Lineage
from worker.ledger.clock import to_ms
from worker.ledger.errors import LedgerError
from worker.ledger.gate import as_mapping
from worker.ledger.groups import Group
from worker.ledger.ledger import Ledger
from worker.ledger.merge import READ_AT_ONCE, Found, Merge
from worker.ledger.records import FORMAT
from worker.ledger.selecting import By, Cursor, Filter, bucket_of

__all__ = ["READ_AT_ONCE", "By", "Cursor", "Filter", "Found", "Listing", "Page", "UngroupedError"]


class UngroupedError(LedgerError):
    """An older version wrote this ledger, and not every lineage is in its group yet."""

    def __init__(self) -> None:
        super().__init__(
            "an older version wrote this ledger, and its lineages are not all sorted into groups yet: "
            "a worker of this version does that by itself within its first minutes"
        )


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
            merge = self._merge(wanted, groups, by, _behind(after, bucket), ahead=left)
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
            merge = self._merge(wanted, groups, by, _behind(after, bucket))
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

    def _merge(
        self,
        wanted: Filter,
        groups: Sequence[Group],
        by: By,
        after: tuple[int, str] | None,
        *,
        ahead: int | None = None,
    ) -> Merge:
        newest = by is not By.OLDEST
        return Merge(self._ledger, groups, _bounds(wanted), after, newest=newest, ahead=ahead)

    async def _buckets(self, wanted: Filter, by: By, after: Cursor | None) -> list[tuple[str, list[Group]]]:
        """Return the groups that are meant, by what lineages are ordered by before their time."""
        if after and after.by != by:
            raise ValueError(f"is a place in the order by {after.by}")
        groups, names = await self._groups(wanted)
        buckets: dict[str, list[Group]] = {}
        for group in groups:
            buckets.setdefault(bucket_of(by, group, names), []).append(group)
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


def _place(by: By, bucket: str, last: Found) -> Cursor:
    return Cursor(by.value, bucket, to_ms(last.at), last.root)


def _behind(after: Cursor | None, bucket: str) -> tuple[int, str] | None:
    return (after.at_ms, after.root) if after and after.bucket == bucket else None


def _bounds(wanted: Filter) -> tuple[int | str, int | str]:
    since = "-inf" if wanted.since is None else to_ms(wanted.since)
    return since, "+inf" if wanted.until is None else to_ms(wanted.until)
