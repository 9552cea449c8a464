"""Signs of life: a file that worker and beat touch, and the check that reads its age.

Cheap enough for a container's health check. It shows that the process's own loop turns; `status` shows
whether work is done.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from celery import bootsteps

TOUCH_EVERY_S = 5.0
STALE_AFTER_S = 30.0


def sign_of_life(role: str) -> Path:
    """Return the file that a role (`worker` or `beat`) touches."""
    return Path(tempfile.gettempdir()) / f"kinetic-retry-{role}.alive"


def touch(role: str) -> None:
    """Touch the role's file; a full or read-only disk must not stop the work."""
    try:
        sign_of_life(role).touch()
    except OSError:
        return


def age_s(role: str) -> float | None:
    """Return how long ago the role gave a sign of life, in seconds; None when it never did."""
    try:
        return max(0.0, time.time() - sign_of_life(role).stat().st_mtime)
    except OSError:
        return None


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
