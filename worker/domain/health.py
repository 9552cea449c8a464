"""How a workflow's recent runs went, and whether that says that the workflow itself is broken. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Ended(StrEnum):
    """How a run ended. The letters are what the ledger writes down."""

    COMPLETED = "c"
    FAILED = "f"
    CLONE_COMPLETED = "d"
    CLONE_FAILED = "g"

    @property
    def ok(self) -> bool:
        """Whether it completed."""
        return self in (Ended.COMPLETED, Ended.CLONE_COMPLETED)

    @property
    def by_us(self) -> bool:
        """Whether it was a clone that we made."""
        return self not in (Ended.COMPLETED, Ended.FAILED)


WEIGHTS = {Ended.COMPLETED: -1, Ended.CLONE_COMPLETED: -1, Ended.FAILED: 2, Ended.CLONE_FAILED: 1}
"""What a run adds to the score. A clone that fails says less than an original: it may be its input's fault,
and that input has been counted once."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run that ended.

    Attributes:
        ended_at: by the Redis server's clock.
        ended: how.
    """

    ended_at: datetime
    ended: Ended


@dataclass(frozen=True, slots=True)
class Tally:
    """What some runs say, oldest first.

    Attributes:
        runs, failures: how many, and how many of them failed.
        score: see `tally`.
        last_failure_at, last_clone_failure_at: None when there is none.
        clones_failed, clones_completed: of the runs that we made.
    """

    runs: int = 0
    failures: int = 0
    score: int = 0
    first_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    last_clone_failure_at: datetime | None = None
    clones_failed: int = 0
    clones_completed: int = 0

    @property
    def successes(self) -> int:
        """How many completed."""
        return self.runs - self.failures

    @property
    def in_words(self) -> str:
        """How many of how many runs failed."""
        if self.failures == self.runs:
            return f"all of the last {self.runs} runs failed" if self.runs != 1 else "the last run failed"
        return f"{self.failures} of the last {self.runs} runs failed"


def tally(runs: Iterable[Run], since: datetime | None = None) -> Tally:
    """Return what the runs that ended at `since` or later say, whatever order they are given in.

    The score is a cumulative sum that never falls below zero (E. S. Page, "Continuous Inspection Schemes",
    Biometrika 41, 1954): a failure adds 2, a failed clone 1, a success takes 1 away. It stays near zero
    while fewer than a third of the runs fail, and reaches 6 with three failures in a row.

    >>> from datetime import UTC, timedelta
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> def score(letters):
    ...     return tally(Run(noon + timedelta(minutes=i), Ended(c)) for i, c in enumerate(letters)).score
    >>> score("fff"), score("fcfcf"), score("ccccfgg"), score("fccfccfcc")
    (6, 4, 4, 0)
    """
    counted = sorted((run for run in runs if since is None or run.ended_at >= since), key=_when)
    score = 0
    for run in counted:
        score = max(0, score + WEIGHTS[run.ended])
    failed = [run for run in counted if not run.ended.ok]
    by_us = [run for run in failed if run.ended.by_us]
    return Tally(
        runs=len(counted),
        failures=len(failed),
        score=score,
        first_success_at=next((run.ended_at for run in counted if run.ended.ok), None),
        last_failure_at=_last(failed),
        last_clone_failure_at=_last(by_us),
        clones_failed=len(by_us),
        clones_completed=sum(run.ended is Ended.CLONE_COMPLETED for run in counted),
    )


def _when(run: Run) -> tuple[datetime, int]:
    return run.ended_at, WEIGHTS[run.ended]


def _last(runs: Sequence[Run]) -> datetime | None:
    return runs[-1].ended_at if runs else None
