"""One clock: the Redis server's. Workers follow it by every answer that carries the server's time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STALE_AFTER_S = 10.0
_TOO_SLOW_S = 1.0
"""An answer that took longer says little of the time: its request may have waited anywhere."""


def to_ms(moment: datetime) -> int:
    """Return a moment as whole milliseconds since the Unix epoch."""
    return whole_ms(moment - _EPOCH)


def whole_ms(duration: timedelta) -> int:
    """Return a duration in whole milliseconds, rounded down."""
    # In parts: dividing a duration takes four times as long, and each commit does it a dozen times.
    return (duration.days * 86_400 + duration.seconds) * 1000 + duration.microseconds // 1000


def from_ms(milliseconds: float) -> datetime:
    """Return the moment that many milliseconds after the Unix epoch, aware UTC."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _uptime_s() -> float:
    # CLOCK_BOOTTIME goes on while the machine sleeps; a lease must not seem longer because we slept.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class ServerClock:
    """The server's time between two answers, counted on this machine's uptime.

    The server's time is taken to be that of the moment the request left: the clock may run ahead of the
    server by the time a request travels, never behind it, so a lease never seems longer than it is.
    Until the first answer it reads this machine's own clock.
    """

    def __init__(self, uptime_s: Callable[[], float] = _uptime_s) -> None:
        self._uptime_s = uptime_s
        self._server_at_zero_s: float | None = None  # the server's time when our uptime was 0
        self._round_trip_s = 0.0
        self._heard_at_s = 0.0

    def mark(self) -> float:
        """Return a mark to be taken just before a request leaves; pass it to `hear`."""
        return self._uptime_s()

    def hear(self, mark: float, server_ms: int) -> None:
        """Take in the server's time from an answer. Quick answers are believed over slow ones."""
        here = self._uptime_s()
        round_trip = here - mark
        stale = here - self._heard_at_s > _STALE_AFTER_S and round_trip < _TOO_SLOW_S
        if self._server_at_zero_s is None or stale or round_trip <= self._round_trip_s:
            self._server_at_zero_s = server_ms / 1000 - mark
            self._round_trip_s, self._heard_at_s = round_trip, here

    def now(self) -> datetime:
        """Return the server's time now, aware UTC."""
        if self._server_at_zero_s is None:
            return datetime.now(UTC)
        return from_ms((self._server_at_zero_s + self._uptime_s()) * 1000)
