"""A stand-in for the Kinetic client inside one process: what each call does is scripted, and counted.

It keeps the record that matters: how many clones were made of each execution.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from worker.domain.delivery import Accepted, Delivery, Refused, Unclear
from worker.domain.executions import Execution, Status
from worker.kinetic import KineticError, NotFound, Page, Unreadable

Script = Callable[["ScriptedApi", str], Awaitable[Delivery]]


class ScriptedApi:
    """Executions in memory. `answers` scripts the next retry calls; the rest are accepted."""

    def __init__(self) -> None:
        self.executions: dict[str, Execution] = {}
        self.answers: deque[Script] = deque()
        self.clones: Counter[str] = Counter()
        self.calls: list[str] = []
        self.clone_status = Status.QUEUED
        self.trouble: KineticError | None = None
        self.skew = timedelta(0)
        self.skew_of_next_listing: timedelta | None = None
        self.gets = 0
        self.page_size = 100
        self.payload_in_list = True
        self.unreadable_per_page = 0
        self.cut_after_pages: int | None = None
        self.break_after_pages: int | None = None
        self.pages_read = 0

    def add(self, *executions: Execution) -> None:
        self.executions |= {each.uuid: each for each in executions}

    def end(self, uuid: str, status: Status) -> None:
        self.executions[uuid] = replace(self.executions[uuid], status=status, updated_at=datetime.now(UTC))

    def make_clone(self, of: str) -> Execution:
        """Do what the API does: a new execution with the same details, which does not name its parent."""
        self.clones[of] += 1
        now = datetime.now(UTC)
        uuid = f"clone-{sum(self.clones.values())}-of-{of}"
        clone = replace(
            self.executions[of], uuid=uuid, status=self.clone_status, created_at=now, updated_at=now
        )
        self.executions[uuid] = clone
        return clone

    async def retry(self, execution_uuid: str) -> Delivery:
        self.calls.append(execution_uuid)
        if self.answers:
            return await self.answers.popleft()(self, execution_uuid)
        return Accepted(self.make_clone(execution_uuid))

    async def get(self, execution_uuid: str) -> Execution:
        self.gets += 1
        if self.trouble:
            raise self.trouble
        if execution_uuid not in self.executions:
            raise NotFound("not_found", "no such execution", 404)
        return self.executions[execution_uuid]

    async def pages(self, *, status: Status | None, since: datetime | None = None) -> AsyncIterator[Page]:
        ordered = sorted(
            self.executions.values(), key=lambda each: each.created_at or datetime.min.replace(tzinfo=UTC)
        )[::-1]
        wanted = [each for each in ordered if status is None or each.status is status]
        for number, start in enumerate(range(0, max(len(wanted), 1), self.page_size)):
            if self.trouble:
                raise self.trouble
            if number == self.cut_after_pages:
                return
            if number == self.break_after_pages:
                raise Unreadable("unreadable_list", "", 200)
            self.pages_read += 1
            self.skew = self.skew_of_next_listing or self.skew
            page = wanted[start : start + self.page_size]
            if not self.payload_in_list:
                page = [replace(each, fingerprint="") for each in page]
            dates = [each.created_at for each in page]
            oldest = min((date for date in dates if date), default=None) if None not in dates else None
            last = start + self.page_size >= len(wanted)
            yield Page(tuple(page), len(page), self.unreadable_per_page, oldest, last)

    async def probe(self) -> None:
        if self.trouble:
            raise self.trouble


def answering(delivery: Delivery) -> Script:
    """Answer without making a clone."""

    async def script(api: ScriptedApi, of: str) -> Delivery:
        return delivery

    return script


async def gone(api: ScriptedApi, of: str) -> Delivery:
    """Know nothing of the execution any more."""
    del api.executions[of]
    return Refused("not_found", "no such execution", 404)


async def accepting(api: ScriptedApi, of: str) -> Delivery:
    """Make the clone and answer with it."""
    return Accepted(api.make_clone(of))


async def clone_then_lose_the_answer(api: ScriptedApi, of: str) -> Delivery:
    """Make the clone, but the caller never learns of it."""
    api.make_clone(of)
    return Unclear("read_timeout")
