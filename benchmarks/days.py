"""Simulated days: what runs, what is broken when, and what can never succeed.

The same seed gives every policy the same day, and the same luck: whether a clone flakes depends on the seed,
the execution and the number of the clone, not on who made it. The world runs an hour before midnight already,
for a worker that is new to it knows nothing; only what is started on the day itself is counted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.domain.failures import Signature
from worker.replay.world import Case, Original, Outcome

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
BEFORE = timedelta(hours=1)
STEPS = 30


@dataclass(frozen=True, slots=True)
class Trouble:
    """Runs of some workflows that are under way between two times of day fail.

    Attributes:
        workflows: their numbers.
        step: at which they fail.
        share: of the runs that fail.
    """

    workflows: frozenset[int]
    begins: timedelta
    lasts: timedelta
    step: int = 1
    share: float = 1.0

    def hits(self, workflow: int, begins: datetime, ends: datetime) -> bool:
        """Whether a run is under way in it: from its first moment to its last."""
        from_, until = MIDNIGHT + self.begins, MIDNIGHT + self.begins + self.lasts
        return workflow in self.workflows and begins < until and ends > from_


@dataclass(frozen=True, slots=True)
class Day:
    """One kind of day.

    Attributes:
        name: for people.
        executions: that are started in 24 hours, evenly.
        run: how long a run takes that completes.
        flaky: share of the runs that fail for no reason that lasts.
        never: share of the executions that cannot succeed whatever is done.
    """

    name: str
    executions: int = 10_000
    workflows: int = 20
    run: timedelta = timedelta(minutes=3)
    flaky: float = 0.05
    never: float = 0.01
    troubles: tuple[Trouble, ...] = ()

    def with_seed(self, seed: int) -> DayWorld:
        """Return one such day."""
        return DayWorld(self, seed)


class DayWorld:
    """One day: what each run and each clone does."""

    def __init__(self, day: Day, seed: int) -> None:
        self._day = day
        self._seed = seed
        self._never: set[str] = set()
        earlier = self._made("earlier", round(day.executions * (BEFORE / DAY)), MIDNIGHT - BEFORE, BEFORE)
        self._counted = self._made("day", day.executions, MIDNIGHT, DAY)
        self._originals = [*earlier, *self._counted]

    @property
    def originals(self) -> Sequence[Original]:
        """Every run that people started, that of the hour before included."""
        return self._originals

    @property
    def never(self) -> frozenset[str]:
        """Names of those that cannot succeed."""
        return frozenset(self._never)

    def counted(self, cases: Sequence[Case]) -> list[Case]:
        """Return those of the day itself."""
        names = {each.name for each in self._counted}
        return [each for each in cases if each.original.name in names]

    def clone(self, original: Original, number: int, starts_at: datetime) -> Outcome:
        """Return how a clone ends."""
        return self._outcome(original.name, int(original.workflow.split()[1]), number, starts_at)

    def _made(self, what: str, executions: int, begins: datetime, lasts: timedelta) -> list[Original]:
        dice = random.Random(f"{self._seed} {what}")
        made = []
        for number in range(executions):
            prefix = "execution" if what == "day" else what
            name, workflow = f"{prefix}-{number}", dice.randrange(self._day.workflows)
            if dice.random() < self._day.never:
                self._never.add(name)
            starts_at = begins + lasts * dice.random()
            made.append(Original(name, f"workflow {workflow}", self._outcome(name, workflow, 0, starts_at)))
        return made

    def _outcome(self, name: str, workflow: int, number: int, starts_at: datetime) -> Outcome:
        dice = random.Random(f"{self._seed} {name} {number}")
        flakes, step, wobble = (
            dice.random() < self._day.flaky,
            dice.randint(1, STEPS),
            dice.uniform(0.95, 1.05),
        )
        ends_at = starts_at + self._day.run
        trouble = next((t for t in self._day.troubles if t.hits(workflow, starts_at, ends_at)), None)
        if trouble and dice.random() < trouble.share:
            return self._failure(ends_at, trouble.step, wobble)
        if name in self._never:
            own_step = random.Random(f"{self._seed} {name}").randint(1, STEPS)
            return self._failure(ends_at, own_step, wobble)
        return self._failure(ends_at, step, wobble) if flakes else Outcome(ends_at, True)

    def _failure(self, ends_at: datetime, step: int, wobble: float) -> Outcome:
        lasted_ms = round(self._day.run / timedelta(milliseconds=1) * step / STEPS * wobble)
        return Outcome(ends_at, False, Signature("v1", step, round(3 * step * wobble), lasted_ms))


WORKING_DAY = Day(
    "working day: five workflows down for 45 min, one broken for 6 h",
    troubles=(
        Trouble(frozenset(range(5)), timedelta(hours=10), timedelta(minutes=45)),
        Trouble(frozenset({7}), timedelta(hours=12), timedelta(hours=6), step=9),
    ),
)
QUIET_DAY = Day("quiet day: nothing but flakes and what never succeeds")
OUTAGE_DAY = Day(
    "outage day: everything is down for half an hour",
    troubles=(Trouble(frozenset(range(20)), timedelta(hours=10), timedelta(minutes=30)),),
)
BAD_DEPLOY_DAY = Day(
    "bad deploy: 90% of four workflows fail until it is rolled back after 2 h",
    troubles=(Trouble(frozenset({2, 3, 11, 17}), timedelta(hours=9), timedelta(hours=2), step=4, share=0.9),),
)
DAYS = {"working": WORKING_DAY, "quiet": QUIET_DAY, "outage": OUTAGE_DAY, "deploy": BAD_DEPLOY_DAY}
