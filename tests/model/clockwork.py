"""Time that only moves when the test says so, and an event loop that lives by it.

Nothing in a simulated worker waits for real: sockets are not used (see `calls`), timers run on virtual
time, and threads are run on the spot. So the order of everything is the test's own choice, and a run can
be repeated exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """The true time: Redis shows it, workers guess it, the API is off by a skew."""

    def __init__(self) -> None:
        self.passed = timedelta(0)

    def now(self) -> datetime:
        return START + self.passed

    def now_us(self) -> int:
        return (self.now() - _EPOCH) // timedelta(microseconds=1)

    def uptime_s(self) -> float:
        """Return what a monotonic clock of this machine shows."""
        return 1000.0 + self.passed.total_seconds()

    def monotonic(self) -> float:
        """Return the same under the name that `time.monotonic` has, to stand in for that module."""
        return self.uptime_s()

    def advance(self, seconds: float) -> None:
        self.passed += timedelta(seconds=seconds)


class Loop(asyncio.SelectorEventLoop):
    """An event loop on virtual time that runs until nothing can go on by itself."""

    def __init__(self, clock: Clock) -> None:
        self._virtual = clock
        super().__init__()
        self.set_exception_handler(lambda *_: None)  # abandoned tasks end however they like

    def time(self) -> float:
        return self._virtual.uptime_s()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]  # narrower
        done: asyncio.Future[Any] = self.create_future()
        done.set_result(func(*args))
        return done

    def settle(self) -> None:
        """Run until every task waits for the test or for the clock."""
        self.call_soon(self._stop_when_quiet)
        self.run_forever()

    def _stop_when_quiet(self) -> None:
        # asyncio has no public way to ask; both lists are its own since Python 3.4.
        ready: Any = self._ready  # type: ignore[attr-defined]
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        due = any(not timer.cancelled() and timer.when() <= self.time() for timer in scheduled)
        if ready or due:
            self.call_soon(self._stop_when_quiet)
        else:
            self.stop()
