"""The worker's sign of life, given by Celery's own timer. `health` itself must not import Celery."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from worker.health import touch

TOUCH_EVERY_S = 5.0


class WorkerHeartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Touches the worker's file from its own timer, so a stuck main loop shows."""

    requires = frozenset({"celery.worker.components:Timer"})

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        self._entry: Any = None
        super().__init__(parent, **kwargs)

    def start(self, parent: Any) -> None:
        """Begin touching."""
        touch("worker")
        self._entry = parent.timer.call_repeatedly(TOUCH_EVERY_S, touch, ("worker",))

    def stop(self, parent: Any) -> None:  # noqa: ARG002  # Celery's signature
        """Stop touching."""
        if self._entry:
            self._entry.cancel()
