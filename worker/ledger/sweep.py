"""Reading every lineage that is meant exactly once, while workers move them. Changes nothing.

They are read in order of the time since when they are in their state. One that moves gets a later time: it is
met again further on, never behind. So none is missed, and of those that were met late it is remembered
whether they were read before, at eight bytes each.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from hashlib import blake2b

from worker.domain.lineage import Lineage
from worker.ledger.groups import Group
from worker.ledger.ledger import Ledger
from worker.ledger.listing import By, Cursor, Filter, Found, Listing

LATE = timedelta(minutes=1)
"""A commit may store a time that is this much older than the moment at which it is stored."""


class Sweep:
    """One reading of a ledger.

    Attributes:
        unreadable: lineages whose records this version cannot read; they are left out.
    """

    def __init__(self, ledger: Ledger, wanted: Filter, began: datetime) -> None:
        self._ledger = ledger
        self._wanted = wanted
        self._late_from = began - LATE
        self._seen = array("Q")
        self._seen_late: set[int] | None = None
        self.unreadable = 0

    async def batches(self) -> AsyncIterator[list[Lineage]]:
        """Yield lineages in batches of bounded size.

        Raises:
            UngroupedError: not all can be found yet.
        """
        listing, place = Listing(self._ledger), None
        while True:
            before: Cursor | None = place
            async for page in listing.walk(self._wanted, by=By.OLDEST, after=place):
                records = await self._ledger.read(page.roots)
                whole = [(found, records[found.root]) for found in page.found if found.root in records]
                yield [
                    each for found, each in whole if isinstance(each, Lineage) and self._is_new(found, each)
                ]
                self.unreadable += sum(not isinstance(each, Lineage) for _, each in whole)
                place = page.next
            if place == before:  # nothing came meanwhile, not even into a group that was empty
                return

    def _is_new(self, found: Found, lineage: Lineage) -> bool:
        """Whether a lineage is to be read here: it did not move on since, and was not read before it came."""
        if lineage.since != found.at or Group.of(lineage).field != found.group.field:
            return False
        name = int.from_bytes(blake2b(found.root.encode(), digest_size=8).digest())
        if found.at >= self._late_from:
            if self._seen_late is None:
                self._seen_late = set(self._seen)
            if name in self._seen_late:
                return False
            self._seen_late.add(name)
        else:
            self._seen.append(name)
        return True
