"""How many runs ended and how many clones were made lately, counted the way the ledger counts them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.domain.budget import PACE_WINDOW, Usage

_BUCKET_S = PACE_WINDOW.total_seconds()


@dataclass(slots=True)
class Counts:
    """Counts of one workflow, or of all.

    Attributes:
        runs: ends of runs that were not clones of ours.
        clones, lately: when clones were made.
        buckets: runs that ended in each five minutes.
    """

    runs: deque[datetime] = field(default_factory=deque)
    clones: deque[datetime] = field(default_factory=deque)
    lately: deque[datetime] = field(default_factory=deque)
    buckets: dict[int, int] = field(default_factory=dict)

    def ran(self, moment: datetime) -> None:
        """Count a run that ended then."""
        self.runs.append(moment)
        bucket = _bucket(moment)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def made(self, moment: datetime) -> None:
        """Count a clone that was made then."""
        self.clones.append(moment)
        self.lately.append(moment)

    def usage(self, mine: Counts, window: timedelta, now: datetime) -> Usage:
        """Return what the limits look at, but for what is in flight; `mine` are one workflow's counts."""
        since = now - window
        return Usage(
            runs=_left(mine.runs, since),
            all_runs=_left(self.runs, since),
            busiest=self._busiest(since),
            made=_left(mine.clones, since),
            all_made=_left(self.clones, since),
            made_lately=_left(self.lately, now - PACE_WINDOW),
        )

    def _busiest(self, since: datetime) -> int:
        """Forgets buckets from before `since` as it goes: they come in order."""
        oldest = _bucket(since)
        while self.buckets and (first := next(iter(self.buckets))) < oldest:
            del self.buckets[first]
        return max(self.buckets.values(), default=0)


def _bucket(moment: datetime) -> int:
    return int(moment.timestamp() // _BUCKET_S)


def _left(moments: deque[datetime], since: datetime) -> int:
    while moments and moments[0] < since:
        moments.popleft()
    return len(moments)
