"""Look at running clones, and at executions watched by name, and act on how they ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from worker.domain.executions import Execution, Status
from worker.domain.health import Ended, Run
from worker.domain.lineage import Lineage, State
from worker.domain.outage import looks_at_once
from worker.domain.watching import next_look_in
from worker.engine.clones import take_in
from worker.engine.context import Context
from worker.engine.desk import Workflow
from worker.engine.discover import begin_lineage
from worker.engine.joining import look, record
from worker.engine.listed import read_list
from worker.engine.pool import Pool
from worker.engine.suspects import Suspects
from worker.kinetic import KineticError, NotFound
from worker.ledger import Outcome

BATCHES = 2
"""Claimed at once, for each look under way: little enough that a closed gate is noticed soon."""
T = TypeVar("T")


async def watch(ctx: Context) -> dict[str, int]:
    """Look at what is due for a bounded time; probe the API instead while the gate is closed."""
    gate = await ctx.ledger.gate.look()
    if gate.closed:
        await ctx.calls.probe(gate)
        return {}
    opening_for = ctx.now() - gate.opening_since if gate.opening_since else None
    at_once = looks_at_once(opening_for, ctx.options.submit_concurrency)
    clones, tracked = _Clones(ctx, at_once), _Tracked(ctx, at_once)
    await clones.run()
    await tracked.run()
    return {"looks": clones.looks + tracked.looks, "ended": clones.ended + tracked.ended}


class _Looks(Generic[T]):
    """What looking at clones and at named executions have in common."""

    def __init__(self, ctx: Context, at_once: int) -> None:
        self.ctx = ctx
        self.at_once = at_once
        self.looks = 0
        self.ended = 0
        self.times: dict[str, datetime] = {}
        # What a worker that dies leaves behind others look at after this; a slow look may be made twice.
        self.hide_for = ctx.options.batch_budget + ctx.options.request_bound / 2

    async def run(self) -> None:
        """Look at what is due, and set when to look again, also at what was not begun."""
        closings = self.ctx.calls.closings
        pool: Pool[T] = Pool(
            self.supply,
            self.work,
            concurrency=self.at_once,
            budget=self.ctx.options.batch_budget,
            keep_going=lambda: self.ctx.calls.closings == closings and not self.ctx.stopping(),
        )
        try:
            await pool.run()
        finally:
            self.put_off(pool.not_begun)
            await self.save_times()

    async def supply(self) -> Sequence[T]:
        """Claim what is due."""
        raise NotImplementedError

    async def work(self, item: T) -> None:
        """Look at one and act on it."""
        raise NotImplementedError

    def put_off(self, items: Sequence[T]) -> None:
        """Let others look at what was not begun."""
        raise NotImplementedError

    async def save_times(self) -> None:
        """Store when each is looked at next."""
        raise NotImplementedError

    async def get(self, uuid: str) -> Execution | NotFound | None:
        """Return the execution, `NotFound`, or None when the API gave no usable answer this time."""
        self.looks += 1
        try:
            return await self.ctx.calls.get(uuid)
        except NotFound as error:
            return error
        except KineticError as error:
            self.ctx.log.warning(
                "look_failed",
                execution_uuid=uuid,
                reason=error.reason,
                detail=error.detail,
                next="looking again",
            )
            return None


class _Clones(_Looks[Lineage]):
    """Looks at the clones of running lineages: by the list where many are due, else at each by its name."""

    def __init__(self, ctx: Context, at_once: int) -> None:
        super().__init__(ctx, at_once)
        self.asked: list[Lineage] | None = None

    async def run(self) -> None:
        if read := await read_list(self.ctx):
            self.asked, self.ended = read
        await super().run()
        await self.ctx.desk.save_lengths()

    async def supply(self) -> Sequence[Lineage]:
        most = self.at_once * BATCHES
        if self.asked is not None:  # the list was read for all that are due: these it does not show
            if self.asked and not await self.ctx.calls.is_open():  # the pool sees that as well, and ends
                return []
            asked, self.asked = self.asked[:most], self.asked[most:]
            return asked
        claim = await self.ctx.ledger.claim(State.RUNNING, limit=most, hide_for=self.hide_for)
        found = await self.ctx.ledger.read(claim.members)
        return [each for each in found.values() if isinstance(each, Lineage) and each.state is State.RUNNING]

    async def work(self, lineage: Lineage) -> None:
        next_at = await take_in(self.ctx, lineage, await self.get(lineage.newest.clone))
        if next_at:
            self.times[lineage.root] = next_at
        else:
            self.ended += 1

    def put_off(self, lineages: Sequence[Lineage]) -> None:
        """Let others look at what was not begun, nor handed out."""
        self.times |= {each.root: self.ctx.now() for each in (*lineages, *(self.asked or ()))}

    async def save_times(self) -> None:
        await self.ctx.ledger.reschedule(State.RUNNING, self.times)


class _Tracked(_Looks[str]):
    """Looks at executions that someone named, whether or not a list shows them."""

    async def supply(self) -> Sequence[str]:
        claim = await self.ctx.ledger.claim_tracked(limit=self.at_once * BATCHES, hide_for=self.hide_for)
        return claim.members

    async def work(self, uuid: str) -> None:
        found = await self.get(uuid)
        now = self.ctx.now()
        age = now - (await self.ctx.ledger.tracked_since(uuid) or now)
        if isinstance(found, NotFound) and age > self.ctx.options.resolve_grace:
            await self._stop(uuid, "not_found", "the API does not know this execution")
        elif isinstance(found, Execution) and found.status is Status.COMPLETED:
            await self._stop(uuid, "completed", "it completed; there is nothing to retry")
        elif isinstance(found, Execution) and found.status is Status.FAILED:
            await self._failed(uuid, found, now, age)
        elif isinstance(found, Execution) and age > self.ctx.options.watch_timeout:
            await self._stop(
                uuid, "watch_timeout", f"it had not ended after {self.ctx.options.watch_timeout}"
            )
        else:
            self._look_again(uuid, now, age)

    async def _failed(self, uuid: str, found: Execution, now: datetime, age: timedelta) -> None:
        """Begin its lineage, unless it may be the clone of a call in doubt: then that comes first.

        `uuid` is how a person wrote it: the API may write it otherwise (upper case), and owns the true form.
        """
        suspects = await Suspects.of(self.ctx, [found])
        if not await self.ctx.ledger.owners([found.uuid]):
            if suspects.still_in_doubt(found):
                self._look_again(uuid, now, age)
                return
            joins = await look(self.ctx, [found])
            for change in joins.changes.values():
                await record(self.ctx, change)
            if joins.changes or joins.waiting:  # it belongs to a lineage then, or is judged anew
                self._look_again(uuid, now, age)
                return
            stamp = found.updated_at or found.created_at
            failed_at = min(stamp - self.ctx.calls.skew, now) if stamp else now
            await self.ctx.desk.look([Workflow.of(found)])
            self.ctx.desk.expect(Workflow.of(found), Run(failed_at, Ended.FAILED))
            change = begin_lineage(
                self.ctx,
                found,
                failed_at=failed_at,
                seen_at=now,
                source="track",
                dated=stamp is not None,
                hold=suspects.hold(found),
            )
            outcome = await self.ctx.commit(change)
            if outcome is Outcome.STALE:  # the ledger began anew, or someone else was first: look who has it
                await self.ctx.ledger.begin(self.ctx.waited())
                self._look_again(uuid, now, age)
                return
        await self._stop(uuid, "failed", "it failed; its lineage goes on from here")

    def _look_again(self, uuid: str, now: datetime, age: timedelta) -> None:
        self.times[uuid] = now + next_look_in(age, self.ctx.options.watch_interval)

    def put_off(self, uuids: Sequence[str]) -> None:
        """Let others look at what was not begun."""
        self.times |= dict.fromkeys(uuids, self.ctx.now())

    async def save_times(self) -> None:
        await self.ctx.ledger.look_again(self.times)

    async def _stop(self, uuid: str, reason: str, detail: str) -> None:
        self.ended += 1
        await self.ctx.ledger.untrack([uuid])
        self.ctx.log.info("tracking_ended", execution_uuid=uuid, reason=reason, detail=detail)
