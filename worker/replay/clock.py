"""A clock that jumps from one event to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime
from itertools import count


class VirtualClock:
    """Calls what is planned, in the order of time; for the same moment, in the order of planning."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self._planned: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, moment: datetime, call: Callable[[], None]) -> None:
        """Plan a call; one whose time has passed comes next."""
        heapq.heappush(self._planned, (max(moment, self.now), next(self._order), call))

    def run(self, until: datetime) -> None:
        """Jump from call to call until nothing is planned, or the next one is later than `until`."""
        while self._planned and self._planned[0][0] <= until:
            self.now, _, call = heapq.heappop(self._planned)
            call()
