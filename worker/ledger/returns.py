"""The return on retries: what became of clones, counted by the hour in which it became known.

Counted in the same step as the commits that tell it (`lua/commit.lua`), so that a report over a month reads a
few hundred small hashes and not a hundred thousand records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.domain.lineage import Lineage, State
from worker.ledger.clock import to_ms

HOUR = timedelta(hours=1)
KEEP_RETURNS_MS = 400 * 24 * 3_600_000
"""Over a year: some hundred fields an hour, long after the lineages themselves are forgotten."""
STEPS = 4
"""Steps of the histogram of times to recovery in each doubling: a median is right within a tenth."""
_SEPARATOR = "\n"
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Returned:
    """One thing that is counted.

    Attributes:
        workflow: what it is counted under.
        attempt: which clone, from 1; 0 = without a clone of ours.
        what: `made`, `failed`, `lost` (never seen to end), `recovered`, or `t` and a step of the time to
            recovery.
    """

    workflow: str
    attempt: int
    what: str

    @property
    def field(self) -> str:
        """How it is named in the hash of an hour."""
        return _SEPARATOR.join((self.workflow, str(self.attempt), self.what))

    @classmethod
    def parse(cls, field: str) -> Returned:
        """Return it from its field; raises ValueError when it is none."""
        workflow, attempt, what = field.rsplit(_SEPARATOR, 2)
        return cls(workflow, int(attempt), what)


def returned(before: Lineage | None, after: Lineage) -> list[str]:
    """Return the fields that a change adds one to."""
    whose, found = after.workflow, []
    if before and after.made > before.made:
        found.append(Returned(whose, after.made, "made"))
    if (
        before
        and before.state is State.RUNNING
        and after.state is not State.RUNNING
        and not before.newest.joined
    ):
        outcome = after.newest.outcome
        if outcome != "completed":
            found.append(Returned(whose, after.made, "failed" if outcome == "failed" else "lost"))
    if after.state is State.RECOVERED:
        ended_at = after.newest.ended_at if after.attempts else None
        took = max(timedelta(0), (ended_at or after.since) - after.root_failed_at)
        attempt = 0 if not after.attempts or after.newest.joined else after.made
        found += [Returned(whose, attempt, "recovered"), Returned(whose, attempt, f"t{step_of(took)}")]
    return [each.field for each in found]


def step_of(duration: timedelta) -> int:
    """Return the step of the histogram that a duration falls into; step 0 is up to one second.

    >>> [step_of(timedelta(seconds=s)) for s in (0.2, 1, 2, 60, 3600)]
    [0, 0, 4, 24, 48]
    """
    seconds = duration.total_seconds()
    return 0 if seconds <= 1 else math.ceil(STEPS * math.log2(seconds))


def end_of(step: int) -> timedelta:
    """Return the longest duration that falls into a step.

    >>> [str(end_of(step)) for step in (0, 4, 24)]
    ['0:00:01', '0:00:02', '0:01:04']
    """
    return timedelta(seconds=2 ** (step / STEPS))


def hour_of(moment: datetime) -> int:
    """Return the hour of a moment, counted from the epoch."""
    return to_ms(moment) // _HOUR_MS
