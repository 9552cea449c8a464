"""Beat: a schedule in memory, since the ledger knows what is due; quiet when Redis is away; ends if told."""

from __future__ import annotations

import time
from typing import Any

import celery.apps.beat
import celery.beat
import structlog
from celery import platforms
from kombu.exceptions import OperationalError

from worker import signs
from worker.episodes import Episode

log = structlog.get_logger("worker.beat")

SHOW_EVERY_S = 2.0


class Scheduler(celery.beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Sends ticks. A tick that cannot be sent is dropped: the next one does as well."""

    producer = None
    """Each tick takes a connection of the application's pool. Celery's own producer waits for the broker
    without end, and meanwhile hears no SIGTERM."""
    _away = Episode()
    _state = "well"
    _since_s = _sent_at_s = _written_at_s = 0.0

    def setup_schedule(self) -> None:
        """Take the schedule from the application's configuration."""
        self.merge_inplace(self.app.conf.beat_schedule)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, and show that beat is alive."""
        now_s = time.monotonic()
        if now_s - self._written_at_s >= SHOW_EVERY_S:
            self._written_at_s = now_s
            signs.write("beat", self.facts())
        return float(super().tick(*args, **kwargs))

    def adjust(self, n: Any, drift: float = 0.0) -> Any:
        """Return in how many seconds to look again: when a tick is due.

        Celery's own looks 10 ms early, and then hundreds of times until it is: half of what beat took.
        """
        return super().adjust(n, drift)

    def facts(self) -> dict[str, Any]:
        """Return what `health` needs to know; times count from the start of the machine."""
        self._since_s = self._since_s or time.monotonic()
        every = min((entry.schedule.run_every.total_seconds() for entry in self.schedule.values()), default=0)
        return {"state": self._state, "since": self._since_s, "sent_at": self._sent_at_s, "every": every}

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send one tick; say once that the broker is away, not once per tick."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as exc:  # noqa: BLE001  # beat must outlive whatever the broker does
            # Only for want of a broker is a beat that sends nothing well.
            self._enter("no_broker" if self._is_of_the_broker(exc) else "well")
            if self._away.met():
                log.error("broker_unavailable", detail=_in_words(exc), next="no ticks are sent; trying again")
        else:
            self._enter("well")
            self._sent_at_s = time.monotonic()
            if self._away.well():
                log.info("broker_back")

    def _is_of_the_broker(self, error: Exception) -> bool:
        """Whether it is away, or refuses. Celery wraps what was raised."""
        transport = self.app.connection_for_write()
        kinds = (OperationalError, OSError, *transport.connection_errors, *transport.channel_errors)
        return isinstance(error.__context__, kinds)

    def _enter(self, state: str) -> None:
        if state != self._state:
            self._state, self._since_s = state, time.monotonic()


def _in_words(error: Exception) -> str:
    """Return what was raised. Celery's own sentence ends with a colon where the cause has no words."""
    cause = error.__context__
    return str(error) if cause is None or str(cause) else f"{error}{type(cause).__name__}"


class Beat(celery.apps.beat.Beat):  # type: ignore[misc]  # Celery has no types
    """Celery's beat, but for how it ends."""

    def install_sync_handler(self, service: Any) -> None:
        """End after the tick that is under way.

        Celery's own handler raises SystemExit wherever the process happens to be. In the middle of a
        publish that can be swallowed, and beat goes on as if it had not been told.
        """

        def end(*_: object) -> None:
            service.stop()

        platforms.signals.update(SIGTERM=end, SIGINT=end)
