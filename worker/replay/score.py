"""What a strategy achieved and what it cost, in a few figures that people compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.replay.world import Case

BUSY = timedelta(minutes=5)
LATE = 0.95


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of some cases.

    Attributes:
        failures: originals that failed.
        recoverable: those of them that some clone, made at the right time, would have completed.
        recovered: those of the recoverable of which a clone completed.
        clones, wasted: that were made, and those of them that failed; also for those that never recover.
        median, late: from failure to recovery, of those that recovered: of half of them, and of 95%.
        late_of_all: within it 95% of the recoverable were recovered; None when fewer than that ever were.
        busiest: the most clones started in any 5 minutes.
    """

    failures: int
    recoverable: int
    recovered: int
    clones: int
    wasted: int
    median: timedelta | None
    late: timedelta | None
    late_of_all: timedelta | None
    busiest: int

    @property
    def share(self) -> float:
        """Recovered, of the recoverable; 1 when there was nothing to recover."""
        return self.recovered / self.recoverable if self.recoverable else 1.0

    @property
    def wasted_each(self) -> float:
        """Failed clones per recovered one."""
        return self.wasted / max(1, self.recovered)


def score(cases: Sequence[Case], never: frozenset[str] = frozenset()) -> Score:
    """Return the figures of these cases.

    Args:
        cases: as played.
        never: names of originals that nothing can recover.
    """
    able = [each for each in cases if each.original.name not in never]
    took = sorted(each.recovered_at - each.failed_at for each in able if each.recovered_at)
    return Score(
        failures=len(cases),
        recoverable=len(able),
        recovered=len(took),
        clones=sum(len(each.attempts) for each in cases),
        wasted=sum(each.wasted for each in cases),
        median=at_share(took, 0.5),
        late=at_share(took, LATE),
        late_of_all=at_share(took, LATE, of=len(able)),
        busiest=most_within(BUSY, (clone.started_at for each in cases for clone in each.attempts)),
    )


def at_share(ordered: Sequence[timedelta], share: float, of: int | None = None) -> timedelta | None:
    """Return what `share` of `of` (default: of those there are) do not exceed; None when there is no such.

    >>> minutes = [timedelta(minutes=n) for n in range(1, 11)]
    >>> str(at_share(minutes, 0.5)), str(at_share(minutes, 0.95)), at_share(minutes, 0.95, of=20)
    ('0:06:00', '0:10:00', None)
    """
    position = int(share * (len(ordered) if of is None else of))
    return ordered[position] if position < len(ordered) else None


def most_within(span: timedelta, moments: Iterable[datetime]) -> int:
    """Return the most of them in any stretch of that length; its end does not belong to it.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> most_within(timedelta(minutes=5), (noon + timedelta(minutes=n) for n in (0, 4, 5, 9, 10)))
    2
    """
    ordered = sorted(moments)
    most = first = 0
    for last, moment in enumerate(ordered):
        while ordered[first] <= moment - span:
            first += 1
        most = max(most, last - first + 1)
    return most
