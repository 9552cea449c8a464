"""Work on many items at once without ever cancelling one.

A retry call that is cancelled in flight has an unknown outcome. So one item's failure lets the others
finish: it only stops new ones from being started.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

T = TypeVar("T")
_IDLE_PAUSE_S = 0.5


class Pool(Generic[T]):
    """Runs `work` on what `supply` brings, `concurrency` at a time, for a bounded time.

    Args:
        supply: brings the next items; an empty answer means that there are none right now.
        work: handles one item; an exception stops the pool from starting others.
        keep_going: asked before each item; False stops the pool from starting others.
        budget: how long new items are started.
    """

    def __init__(
        self,
        supply: Callable[[], Awaitable[Sequence[T]]],
        work: Callable[[T], Awaitable[None]],
        *,
        concurrency: int,
        budget: timedelta,
        keep_going: Callable[[], bool],
    ) -> None:
        self._supply = supply
        self._work = work
        self._concurrency = concurrency
        self._ends_at_s = time.monotonic() + budget.total_seconds()
        self._keep_going = keep_going
        self._queue: deque[T] = deque()
        self._refilling: asyncio.Task[None] | None = None
        self._ask_ahead = False
        self._busy = 0
        self._all_ended = asyncio.Event()
        self._dry = False
        self._failure: Exception | None = None

    @property
    def not_begun(self) -> list[T]:
        """What was supplied and not begun: once the pool has run, for others to do."""
        return list(self._queue)

    async def run(self) -> None:
        """Work until the supply is dry or time is up.

        Raises:
            Exception: the first that `work` or `supply` raised, after all that was begun has ended.
        """
        await asyncio.gather(*(self._worker() for _ in range(self._concurrency)))
        if self._refilling:
            await self._refilling
        if self._failure:
            raise self._failure

    async def _worker(self) -> None:
        while (item := await self._next()) is not None:
            self._busy += 1
            self._all_ended.clear()
            try:
                await self._work(item)
            except Exception as exc:  # noqa: BLE001  # raised by run() once the others have ended
                self._failure = self._failure or exc
            finally:
                self._busy -= 1
                if not self._busy:
                    self._all_ended.set()

    async def _next(self) -> T | None:
        while self._may_start():
            if self._queue:
                item = self._queue.popleft()
                if self._ask_ahead and len(self._queue) < self._concurrency:
                    self._refill_soon()
                return item
            await self._refill_soon()
        return None

    def _refill_soon(self) -> asyncio.Task[None]:
        """Ask for more, once at a time; before the queue is empty if the last answer was not."""
        if self._refilling is None or self._refilling.done():
            self._refilling = asyncio.create_task(self._refill())
        return self._refilling

    async def _refill(self) -> None:
        try:
            items = await self._supply()
        except Exception as exc:  # noqa: BLE001  # raised by run()
            self._failure = self._failure or exc
            return
        self._ask_ahead = bool(items)
        self._queue.extend(items)
        if self._queue:
            return
        if self._busy:
            # Slow calls are under way: use the free places for what falls due meanwhile.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), _IDLE_PAUSE_S)
        else:
            self._dry = True

    def _may_start(self) -> bool:
        return (
            not self._failure and not self._dry and time.monotonic() < self._ends_at_s and self._keep_going()
        )
