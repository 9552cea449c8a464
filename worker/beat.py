"""Beat: a schedule in memory, since the ledger knows what is due; quiet when Redis is away; ends if told."""

from __future__ import annotations

from typing import Any

import celery.apps.beat
import celery.beat
import structlog
from celery import platforms

from worker.episodes import Episode
from worker.health import touch

log = structlog.get_logger("worker.beat")


class Scheduler(celery.beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Sends ticks. A tick that cannot be sent is dropped: the next one does as well."""

    producer = None
    """Each tick takes a connection of the application's pool. Celery's own producer waits for the broker
    without end, and meanwhile hears no SIGTERM."""
    _away = Episode()

    def setup_schedule(self) -> None:
        """Take the schedule from the application's configuration."""
        self.merge_inplace(self.app.conf.beat_schedule)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, and show that beat is alive."""
        touch("beat")
        return float(super().tick(*args, **kwargs))

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send one tick; say once that the broker is away, not once per tick."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except Exception as exc:  # noqa: BLE001  # beat must outlive whatever the broker does
            if self._away.met():
                log.error("broker_unavailable", detail=str(exc), next="no ticks are sent; trying again")
        else:
            if self._away.well():
                log.info("broker_back")


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
