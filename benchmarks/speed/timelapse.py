"""Hours in seconds: a clock for a ledger and for a platform, both of which stand still until it is moved on.

The real scripts run on a real server; only the time that they see is this one. So what is measured in it does
not depend on the machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from worker import ledger as ledger_package
from worker.ledger import Connection, Ledger
from worker.ledger.scripts import script

KEY = "timelapse"
_TIME, _OURS = "redis.call('TIME')", f"redis.call('HMGET', '{KEY}', 'seconds', 'micros')"
_NAMES = [path.stem for path in (Path(ledger_package.__file__).parent / "lua").glob("*.lua")]


class Timelapse:
    """The time of one ledger."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._began_at = self.now = datetime.now(UTC).replace(microsecond=0)

    async def go_on(self, duration: timedelta) -> None:
        """Let time pass."""
        self.now += duration
        seconds, rest = divmod(self.now - datetime.fromtimestamp(0, UTC), timedelta(seconds=1))
        await self._connection.command(
            "HSET", KEY, "seconds", seconds, "micros", rest // timedelta(microseconds=1)
        )

    def uptime_s(self) -> float:
        """Return how long the machine has been up, for a ledger's clock."""
        return (self.now - self._began_at).total_seconds()


async def timelapse_of(ledger: Ledger) -> Timelapse:
    """Return a ledger's time from now on."""
    time = Timelapse(ledger.connection)
    await time.go_on(timedelta(0))
    ledger.clock._uptime_s = time.uptime_s  # noqa: SLF001  # instead of the machine's
    ledger.clock.hear(ledger.clock.mark(), round(time.now.timestamp() * 1000))
    return time


@contextmanager
def scripts_in_timelapse() -> Iterator[None]:
    """Let the scripts of this process ask for the time of a `Timelapse` until the block ends."""
    real = {name: (script(name).source, script(name).digest) for name in _NAMES}
    try:
        for name, (source, _) in real.items():
            _set(name, source.replace(_TIME, _OURS))
        yield
    finally:
        for name, (source, _) in real.items():
            _set(name, source)


def _set(name: str, source: str) -> None:
    object.__setattr__(script(name), "source", source)
    object.__setattr__(script(name), "digest", hashlib.sha1(source.encode()).hexdigest())
