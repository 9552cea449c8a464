"""Signs of life: a file that worker and beat touch, and the check that reads its age.

Cheap enough for a container's health check. It shows that the process's own loop turns; `status` shows
whether work is done.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

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
