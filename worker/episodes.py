"""Trouble that lasts is said once when it begins and once when it is over, not each time it is met."""

from __future__ import annotations

import time
from collections.abc import Callable

SETTLED_AFTER_S = 3.0
"""Well for so long, it is over: a server that is down and up again by turns is one episode."""


class Episode:
    """One kind of trouble in one process. It remembers; the caller says what there is to say."""

    def __init__(self, uptime_s: Callable[[], float] = time.monotonic) -> None:
        self._uptime_s = uptime_s
        self._lasts = False
        self._well_since_s: float | None = None

    def met(self) -> bool:
        """Take note of trouble; return whether it is news."""
        is_news = not self._lasts
        self._lasts = True
        self._well_since_s = None
        return is_news

    def well(self) -> bool:
        """Take note that all is well; return whether that ends an episode."""
        if not self._lasts:
            return False
        now_s = self._uptime_s()
        if self._well_since_s is None:
            self._well_since_s = now_s
        self._lasts = now_s - self._well_since_s < SETTLED_AFTER_S
        return not self._lasts
