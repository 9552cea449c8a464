"""The worker's side of the broker: Celery's consumer, but for what it says and how it waits.

Celery says at each try that the broker is away, waits longer and longer between them, and gives no sign of
life meanwhile. Here an outage is two lines, a try follows every few seconds however long it lasts, and a
worker that waits for its broker counts as alive: starting it anew would not bring the broker back.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import celery.worker.consumer.consumer as celerys
import structlog
from celery.worker.state import maybe_shutdown

from worker.episodes import SETTLED_AFTER_S, Episode
from worker.heartbeat import vitals

log = structlog.get_logger("worker.consumer")

FIRST_TRY_AFTER_S = 0.5
LONGEST_PAUSE_S = 3.0


class Consumer(celerys.Consumer):  # type: ignore[misc]  # Celery has no types
    """Consumes ticks for as long as there is a broker, and waits for one when there is none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._away = Episode()
        super().__init__(*args, **kwargs)

    def connect(self) -> Any:
        """Return a connection. It may be refused at its first command: then nothing is well yet."""
        connection = super().connect()
        vitals.enter("consuming")
        vitals.write()
        self._say_well()
        # Celery drops the timers that were set while connecting when this connection fails.
        self.timer.call_after(SETTLED_AFTER_S, self._say_well)
        return connection

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        """Return what takes messages, and takes note that some arrive."""
        take = super().create_task_handler(*args, **kwargs)

        def take_and_note(message: Any) -> Any:
            vitals.received()
            return take(message)

        return take_and_note

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long that takes."""

        def refused(exc: Exception, _interval: float) -> None:
            self._say(exc)

        connected = conn.ensure_connection(
            refused,
            interval_start=FIRST_TRY_AFTER_S,
            interval_step=FIRST_TRY_AFTER_S,
            interval_max=LONGEST_PAUSE_S,
            callback=_still_here,
        )
        self.first_connection_attempt = False
        return connected

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Say it; Celery connects again."""
        self._say(exc)
        _pause()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of a connection that broke; Celery connects again."""
        self._say(exc)
        super().on_connection_error_after_connected(exc)
        _pause()

    def _say(self, exc: Exception) -> None:
        vitals.enter("no_broker")
        if self._away.met():
            log.error("broker_unavailable", detail=str(exc), next="no ticks arrive; trying again")

    def _say_well(self) -> None:
        if self._away.well():
            log.info("broker_back")


class _SaidAlready(logging.Filter):
    """Drops Celery's own line about a connection that was lost: ours is out already."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is about anything else."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        return celerys.CONNECTION_RETRY not in arguments


logging.getLogger(celerys.__name__).addFilter(_SaidAlready())


def _still_here() -> None:
    """Be called about once a second while there is no connection."""
    maybe_shutdown()
    vitals.write()


def _pause() -> None:
    """Wait before the next connection: one that is refused at the first command would follow at once."""
    _still_here()
    time.sleep(FIRST_TRY_AFTER_S)
