"""The scheduler of beat: in memory, because the ledger knows what is due; and quiet when Redis is away."""

from __future__ import annotations

from typing import Any

import celery.beat
import structlog

from worker.health import touch

log = structlog.get_logger("worker.beat")


class Scheduler(celery.beat.Scheduler):  # type: ignore[misc]  # Celery has no types
    """Sends ticks. A tick that cannot be sent is dropped: the next one does as well."""

    _broker_away = False

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
            if not self._broker_away:
                log.error("broker_unavailable", detail=str(exc), next="no ticks are sent; trying again")
            self._broker_away = True
            return
        if self._broker_away:
            log.info("broker_back")
        self._broker_away = False
