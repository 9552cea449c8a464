"""A platform in memory, on which runs of ours and of others begin and end by a clock; it counts its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from benchmarks.speed.timelapse import Timelapse
from worker.domain.delivery import Accepted, Delivery
from worker.domain.executions import Execution, Status
from worker.kinetic import NotFound, Page

CALL_TAKES = timedelta(milliseconds=50)
PAGE_SIZE = 100


@dataclass(slots=True)
class Made:
    """An execution, and when it ends as what."""

    run: Execution
    created_at: datetime
    ends_at: datetime
    ends_as: Status = Status.COMPLETED

    def at(self, now: datetime) -> Execution:
        """Return it as the API shows it."""
        if now < self.ends_at:
            return replace(self.run, status=Status.RUNNING, updated_at=self.created_at)
        return replace(self.run, status=self.ends_as, updated_at=self.ends_at)

    def is_shown(self, status: Status | None, now: datetime) -> bool:
        """Whether it has been made, and is of that status."""
        if self.created_at > now:
            return False
        return status is None or status is (self.ends_as if now >= self.ends_at else Status.RUNNING)


class BusyPlatform:
    """An `Api`.

    Args:
        time: goes on with every call.
        took: how long a run of a workflow takes, by dice.
        looks_at_once: calls under way together: each then takes a share of the time.
    """

    def __init__(self, time: Timelapse, took: Callable[[str], timedelta], looks_at_once: int) -> None:
        self._time, self._took, self._at_once = time, took, looks_at_once
        self.made: dict[str, Made] = {}
        self._oldest_first: list[Made] = []
        self.calls: Counter[str] = Counter()
        self.skew = timedelta(0)

    def add(self, run: Execution, created_at: datetime, took: timedelta, ends_as: Status) -> Made:
        """Let a run begin, now or later; in the order in which they are made."""
        made = Made(replace(run, created_at=created_at), created_at, created_at + took, ends_as)
        self.made[run.uuid] = made
        self._oldest_first.append(made)
        return made

    def in_order(self) -> None:
        """Sort what was added in another order."""
        self._oldest_first.sort(key=lambda each: each.created_at)

    async def retry(self, execution_uuid: str) -> Delivery:
        """Make a clone."""
        self.calls["POST"] += 1
        await self._time.go_on(CALL_TAKES / self._at_once)
        of = self.made[execution_uuid].run
        clone = replace(of, uuid=f"clone-{self.calls['POST']}-of-{of.uuid}"[:60], status=Status.QUEUED)
        now = self._time.now
        made = self.add(clone, now, self._took(of.workflow_uuid), Status.COMPLETED)
        return Accepted(replace(made.at(now), status=Status.QUEUED))

    async def get(self, execution_uuid: str) -> Execution:
        """Return one."""
        self.calls["GET"] += 1
        await self._time.go_on(CALL_TAKES / self._at_once)
        if execution_uuid not in self.made:
            raise NotFound("not_found", "no such execution", 404)
        return self.made[execution_uuid].at(self._time.now)

    async def pages(self, *, status: Status | None, since: datetime | None = None) -> AsyncIterator[Page]:
        """Yield the list by offset, newest first: each page as things are when it is asked for."""
        del since  # this platform has no such filter
        self.in_order()
        offset = 0
        while True:
            self.calls["page"] += 1
            await self._time.go_on(CALL_TAKES)
            now = self._time.now
            shown = (each for each in reversed(self._oldest_first) if each.is_shown(status, now))
            found = [each.at(now) for each in islice(shown, offset, offset + PAGE_SIZE)]
            offset += len(found)
            oldest = min((each.created_at for each in found if each.created_at), default=None)
            yield Page(tuple(found), len(found), 0, oldest, last=not found)
            if not found:
                return

    async def probe(self) -> None:
        """Answer."""
        self.calls["GET"] += 1
