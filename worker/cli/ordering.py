"""Carry out what a person wants of many lineages: read, decide, store, and say of each what came of it.

Knows nothing of how it is asked for or shown (`orders`). Lineages go through in chunks, each in a few round
trips, so that thousands take seconds and what is kept in memory does not grow with their records. What is
stored is one version of one lineage at a time: whoever was faster wins, and the other is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from random import random

from worker.cli.person import Person
from worker.domain import orders, transitions
from worker.domain.lineage import HELD_BY_PERSON, Lineage, Order
from worker.domain.orders import RefusedError
from worker.domain.policy import PolicyBook, RetryAt, decide
from worker.domain.transitions import CANCELLED_BY_PERSON, DECIDED_BY_PERSON, Change
from worker.ledger import Ledger, LedgerFormatError, LedgerUnavailable, Outcome

CHUNK = 500
"""Lineages read at once; their records are what this takes of memory."""
_BY_PERSON = (HELD_BY_PERSON, DECIDED_BY_PERSON, CANCELLED_BY_PERSON)
_NOTHING_SAID = (None, "")
_MAY_BE_STORED = "Redis went away before it answered: it may be on record or not; see `show`"
TRIES = 5
"""Workers move lineages on all the time; more often than that between a reading and a write is no chance."""


class Wanted(StrEnum):
    """What a person wants; also the name of the decision in the stream."""

    RETRY = "retry"
    HOLD = "hold"
    CANCEL = "cancel"
    RELEASE = "release"


class Came(StrEnum):
    """What came of it."""

    DONE = "done"
    REFUSED = "refused"
    BEATEN = "beaten"
    """Another person was faster."""
    SAME = "same"
    """It is the lineage of an execution that was named before."""
    UNKNOWN = "unknown"
    UNCLEAR = "unclear"
    """Redis went away: it may be stored or not."""
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True)
class Item:
    """What came of one execution that was named.

    Attributes:
        uuid: as it was named.
        lineage: as it is now; None when there is none.
        why: why not, in words; "" when it is done.
    """

    uuid: str
    came: Came
    lineage: Lineage | None = None
    why: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it is as the person wants it."""
        return self.came in (Came.DONE, Came.SAME)


@dataclass(slots=True)
class Ordering:
    """One command of a person.

    Attributes:
        policies: as far as this command knows them: when a lineage that is released is due.
        beside: whether a retry may be made beside a clone that may be alive.
        seen: roots that were dealt with, and the execution by which each was named.
    """

    ledger: Ledger
    wanted: Wanted
    person: Person
    policies: PolicyBook
    beside: bool = False
    seen: dict[str, str] = field(default_factory=dict)

    async def carry_out(self, uuids: Sequence[str]) -> AsyncIterator[Item]:
        """Do it for the lineage of each execution, and yield what came of each, in order.

        Raises:
            LedgerUnavailable: the rest was not tried. What was under way at that moment is yielded before, as
                `UNCLEAR` where no answer came.
        """
        async for chunk in self._read(uuids):
            answers = await asyncio.gather(*(self._settle(each) for each in chunk), return_exceptions=True)
            away = None
            for item, answer in zip(chunk, answers, strict=True):
                if isinstance(answer, LedgerUnavailable):
                    away = answer
                    yield Item(item.uuid, Came.UNCLEAR, item.lineage, _MAY_BE_STORED)
                elif isinstance(answer, BaseException):
                    raise answer
                else:
                    yield answer
            if away:
                raise away

    async def rehearse(self, uuids: Sequence[str]) -> AsyncIterator[Item]:
        """Yield what would come of each, and change nothing."""
        async for chunk in self._read(uuids):
            for item in chunk:
                yield self._judge(item)
        self.seen.clear()

    def change(self, lineage: Lineage) -> Change:
        """Return the change that the order is; raises RefusedError when it cannot be had."""
        detail, now = str(self.person), self.ledger.clock.now()
        if self.wanted is Wanted.RETRY:
            change = orders.retry(lineage, detail=detail, now=now, beside=self.beside)
        elif self.wanted is Wanted.HOLD:
            change = orders.hold(lineage, detail=detail, now=now)
        elif self.wanted is Wanted.CANCEL:
            change = orders.cancel(lineage, detail=detail, now=now)
        else:
            due_at = due_by_policy(lineage, self.policies, now)
            change = orders.release(lineage, detail=detail, now=now, due_at=due_at)
        return transitions.by_person(
            change, decision=self.wanted.value, by=self.person.by, why=self.person.why
        )

    async def _read(self, uuids: Sequence[str]) -> AsyncIterator[list[Item]]:
        """Yield chunks with the lineage of each execution; `DONE` means that nothing is known against it."""
        for start in range(0, len(uuids), CHUNK):
            chunk = uuids[start : start + CHUNK]
            owners = await self.ledger.owners(chunk)
            found = await self.ledger.read(list(dict.fromkeys(owners.values())))
            yield [self._found(uuid, owners.get(uuid, ""), found) for uuid in chunk]

    def _found(self, uuid: str, root: str, found: dict[str, Lineage | LedgerFormatError]) -> Item:
        lineage = found.get(root)
        if lineage is None:
            return Item(uuid, Came.UNKNOWN, None, "no lineage has this execution")
        if isinstance(lineage, LedgerFormatError):
            return Item(uuid, Came.REFUSED, None, str(lineage))
        first = self.seen.setdefault(root, uuid)
        if first != uuid:
            return Item(uuid, Came.SAME, lineage, f"it is of the same lineage as {first}")
        return Item(uuid, Came.DONE, lineage)

    def _judge(self, item: Item) -> Item:
        if item.came is not Came.DONE or item.lineage is None:
            return item
        try:
            self.change(item.lineage)
        except RefusedError as error:
            return Item(item.uuid, Came.REFUSED, item.lineage, str(error))
        return item

    async def _settle(self, item: Item) -> Item:
        lineage = item.lineage
        if item.came is not Came.DONE or lineage is None:
            return item
        said = _word(lineage)
        for _ in range(TRIES):
            try:
                change = self.change(lineage)
            except RefusedError as error:
                return Item(item.uuid, Came.REFUSED, lineage, str(error))
            if await self.ledger.commit(change) is Outcome.COMMITTED:
                return Item(item.uuid, Came.DONE, change.after)
            again = (await self.ledger.read([lineage.root])).get(lineage.root)
            if not isinstance(again, Lineage):
                return Item(item.uuid, Came.UNKNOWN, None, "it was forgotten at this moment")
            lineage = again
            if _word(lineage) not in (said, _NOTHING_SAID):
                return Item(item.uuid, Came.BEATEN, lineage, f"somebody else was faster: {word(lineage)}")
        return Item(item.uuid, Came.BEATEN, lineage, "the workers move it on all the time; try again")


def due_by_policy(lineage: Lineage, policies: PolicyBook, now: datetime) -> datetime:
    """Return when the policy that is known here has the lineage's next attempt; now where it has none.

    The settings here may not be the workers': they ask their own policy before the call, and a verdict by the
    wrong one would be final.
    """
    policy, _ = policies.for_workflow(lineage.workflow_uuid, lineage.workflow_name)
    decision = decide(lineage.history, policy, now, random)
    return decision.due_at if isinstance(decision, RetryAt) else now


def named(words: Iterable[str]) -> list[str]:
    """Return each execution once, in the order in which they were named."""
    return list(dict.fromkeys(words))


def word(lineage: Lineage) -> str:
    """Return what a lineage is now, and what a person said about it last, in a sentence."""
    order, detail = _word(lineage)
    said = order.detail if order else detail
    reason = f" ({lineage.reason})" if lineage.reason else ""
    return f"it is {lineage.state.value}{reason}" + (f", by {said}" if said else "")


def _word(lineage: Lineage) -> tuple[Order | None, str]:
    """Return what a person said about it last; what workers did by themselves does not matter."""
    return lineage.order, lineage.detail if lineage.reason in _BY_PERSON else ""
