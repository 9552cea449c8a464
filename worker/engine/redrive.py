"""Carry on the redrives that are open: find out what became of their items, and release the next ones.

One worker at a time does it, for a bounded time; nobody's terminal has to stay open. An item is written down
before its order is stored (`Redrives.note`): a worker that dies in between leaves it half done, and the next
one finds out by the record's version, and by the events, whether the order was stored. An order is a
compare-and-set of the very version that was written down, so that one lineage never gets two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from worker.domain import orders, redriven
from worker.domain.breaker import Breaker
from worker.domain.lineage import Lineage
from worker.domain.redrive import Move, Outcome, Release, Status, moved, step
from worker.domain.redriven import Chosen, Item, Result
from worker.domain.transitions import by_person
from worker.engine.context import TURN_LEASE, Context
from worker.ledger import LedgerFormatError, Turn
from worker.ledger import Outcome as Commit
from worker.ledger.redrive_records import Redrive
from worker.ledger.redrives import Redrives

JOB = "redrive"
LOOKED_AHEAD = 100
"""Items looked at beyond those that may go: those that must not are told and hold nobody up."""
READ_AT_ONCE = 500
Record = Lineage | LedgerFormatError


async def redrive(ctx: Context) -> dict[str, int] | None:
    """Carry on what is open; return what was done in numbers, None when there was nothing or no turn for us.

    Costs one small command while no redrive is open.
    """
    redrives = Redrives(ctx.ledger)
    ids = await redrives.open()
    if not ids:
        return None
    gap = ctx.options.release_interval
    turn = await ctx.ledger.jobs.begin(JOB, lease=TURN_LEASE, gap=gap, calls_api=False)
    if isinstance(turn, str):
        return None
    run = _Turn(ctx, redrives, turn, dict(turn.memory.get("told", {})))
    try:
        async with ctx.ledger.jobs.keeping(turn):
            for each in ids:
                await run.carry_on(each)
    finally:
        told = {each: version for each, version in run.told.items() if each in ids}
        await ctx.ledger.jobs.finish(turn, {"told": told})
    return run.did


@dataclass(slots=True)
class _Turn:
    """One worker's turn.

    Attributes:
        told: the version of where each redrive stood when the log told of it last.
    """

    ctx: Context
    redrives: Redrives
    turn: Turn
    told: dict[str, int]
    did: dict[str, int] = field(default_factory=dict)
    ends_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.ends_at = self.ctx.now() + self.ctx.options.batch_budget

    async def carry_on(self, redrive_id: str) -> None:
        """Book what became of one redrive's items, then go on with it as far as it may."""
        one = await self._load(redrive_id)
        if one and one.flying:
            await self._book(one)
            one = await self._load(redrive_id)
        while one and not self.ctx.stopping() and self.ctx.now() < self.ends_at:
            if not await self._go_on(one):
                break
            one = await self._load(redrive_id)
        if one is None or (one.standing.status.is_over and not one.flying):
            await self.redrives.close(redrive_id, one.standing.version if one else 0)

    async def _go_on(self, one: Redrive) -> bool:
        """Do what comes next; return whether there may be more to do now."""
        match step(one.plan, one.standing, one.tally):
            case Move() as move:
                await self.redrives.move(one, moved(one.standing, move, self.ctx.now()))
                return True
            case Release(count):
                return await self._may_release() and await self._release(one, count) > 0
        return False

    async def _load(self, redrive_id: str) -> Redrive | None:
        found = await self.redrives.load([redrive_id])
        if found:
            self._tell(found[0])
        return found[0] if found else None

    async def _may_release(self) -> bool:
        """Whether a call could leave at all: what is released while none can would only lie there."""
        gate = await self.ctx.ledger.gate.look()
        return not (gate.closed or gate.paused_until or gate.halt)

    # --- what was released ---------------------------------------------------------------------------

    async def _book(self, one: Redrive) -> None:
        """Put on record what became of released items; settle what a worker left half done."""
        records = await self._read(one.flying)
        ended: list[tuple[Item | Chosen, Result]] = []
        for item in one.flying.values():
            record = records.get(item.root)
            if not item.released:
                continue
            if isinstance(record, LedgerFormatError):
                result: Result | None = Result(item.root, Outcome.LOST, "its record cannot be read")
            else:
                result = redriven.outcome(item, record)
            if result:
                ended.append((item, result))
        await self._end(one, ended)
        half_done = [item for item in one.flying.values() if not item.released]
        if half_done:
            await self._settle(one, half_done, records)

    async def _settle(self, one: Redrive, items: Sequence[Item], records: Mapping[str, Record]) -> None:
        """Find out of items that were written down whether their orders were stored.

        While a record has the version that was written down, none was: it is stored now, unless a person let
        the redrive rest meanwhile. Else the events tell whose word it was that moved it on.
        """
        redrive_id = one.plan.id
        unmoved: list[tuple[Item, Lineage]] = []
        moved: list[Item] = []
        for each in items:
            record = records.get(each.root)
            if isinstance(record, Lineage) and record.version == each.version:
                unmoved.append((each, record))
            else:
                moved.append(each)
        ordered = await self.redrives.ordered(redrive_id, min(each.at for each in moved)) if moved else set()
        await self.redrives.confirm(redrive_id, [each.root for each in moved if each.root in ordered])
        await self.redrives.put_back(redrive_id, [each for each in moved if each.root not in ordered])
        if one.standing.status is Status.RUNNING:
            await self._order(one, unmoved)
        else:
            await self.redrives.put_back(redrive_id, [item for item, _ in unmoved])

    # --- what comes next -----------------------------------------------------------------------------

    async def _release(self, one: Redrive, count: int) -> int:
        """Release up to so many in their turn, and skip those that must not go; return how many of both."""
        chosen = await self.redrives.next(one.plan.id, count + LOOKED_AHEAD)
        records = await self._read(each.root for each in chosen)
        breakers, now = await self.ctx.ledger.workflows.breakers(), self.ctx.now()
        skipped: list[tuple[Item | Chosen, Result]] = []
        going: dict[str, tuple[Item, Lineage]] = {}
        for each in chosen:
            record = records.get(each.root)
            why = _why_not(each, record, breakers, now)
            if why or not isinstance(record, Lineage):
                skipped.append((each, Result(each.root, Outcome.SKIPPED, why)))
            elif len(going) < count:
                item = Item(each, record.version, record.made, one.standing.round, now)
                going[each.root] = item, record
            else:
                break
        await self._end(one, skipped)
        noted = await self.redrives.note(one, self.turn, [item for item, _ in going.values()])
        await self._order(one, [going[root] for root in going if root in noted])
        return len(skipped) + len(noted)

    async def _order(self, one: Redrive, items: Sequence[tuple[Item, Lineage]]) -> None:
        """Store the orders of items that are written down; where somebody was faster, the next turn looks."""
        plan, now = one.plan, self.ctx.now()
        detail = f"{redriven.mark(plan.id)}{plan.by}: {plan.why}"

        async def order(lineage: Lineage) -> bool:
            change = orders.retry(lineage, detail=detail, now=now)
            said = by_person(change, decision="redrive", by=plan.by, why=plan.why, redrive=plan.id)
            return await self.ctx.commit(said) is Commit.COMMITTED

        tasks = (order(lineage) for _, lineage in items)
        # All have ended before the first failure is raised: what is stored afterwards nobody would look for.
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        stored = [item.root for (item, _), it in zip(items, answers, strict=True) if it is True]
        await self.redrives.confirm(plan.id, stored)
        self._count("released", len(stored))
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    # --- helpers -------------------------------------------------------------------------------------

    async def _read(self, roots: Iterable[str]) -> dict[str, Record]:
        names, found = list(roots), dict[str, Record]()
        for start in range(0, len(names), READ_AT_ONCE):
            found |= await self.ctx.ledger.read(names[start : start + READ_AT_ONCE])
        return found

    async def _end(self, one: Redrive, results: Sequence[tuple[Item | Chosen, Result]]) -> None:
        await self.redrives.end(one.plan.id, results)
        for _, result in results:
            self._count(result.outcome.value, 1)

    def _count(self, what: str, count: int) -> None:
        if count:
            self.did[what] = self.did.get(what, 0) + count

    def _tell(self, one: Redrive) -> None:
        """Log where it stands, once: also what a person said on a terminal, where no worker was to log it."""
        plan, standing = one.plan, one.standing
        if self.told.get(plan.id, 0) >= standing.version:
            return
        self.told[plan.id] = standing.version
        facts = {"by": standing.by, "why": standing.why, "chosen": plan.chosen, "total": plan.total}
        tell = self.ctx.log.warning if standing.status is Status.STOPPED else self.ctx.log.info
        tell(
            standing.told,
            redrive=plan.id,
            **{name: each for name, each in facts.items() if each},
            **one.counts,
        )


def _why_not(chosen: Chosen, record: Record | None, breakers: Mapping[str, Breaker], now: datetime) -> str:
    if isinstance(record, LedgerFormatError):
        return "its record cannot be read"
    paused = redriven.paused_by(breakers.get(record.workflow), now) if record else ""
    return redriven.why_not(chosen, record, paused)
