"""Simulated days: what runs, what is broken when, and what can never succeed.

The same seed gives every policy the same day, and the same luck: whether a clone flakes depends on the seed, the
execution and the number of the clone, not on who made it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from worker.domain.failures import Signature
from worker.replay.world import Original, Outcome

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
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
        self.never: set[str] = set()
        self._originals = self._make()

    @property
    def originals(self) -> Sequence[Original]:
        """Every run that people started that day."""
        return self._originals

    def clone(self, original: Original, number: int, starts_at: datetime) -> Outcome:
        """Return how a clone ends."""
        return self._outcome(original.name, int(original.workflow.split()[1]), number, starts_at)

    def _make(self) -> list[Original]:
        dice = random.Random(f"{self._seed} day")
        made = []
        for number in range(self._day.executions):
            name, workflow = f"execution-{number}", dice.randrange(self._day.workflows)
            if dice.random() < self._day.never:
                self.never.add(name)
            starts_at = MIDNIGHT + timedelta(days=1) * dice.random()
            outcome = self._outcome(name, workflow, 0, starts_at)
            made.append(Original(name, f"workflow {workflow}", outcome))
        return made

    def _outcome(self, name: str, workflow: int, number: int, starts_at: datetime) -> Outcome:
        dice = random.Random(f"{self._seed} {name} {number}")
        own = random.Random(f"{self._seed} {name}")
        flakes, step, wobble = dice.random() < self._day.flaky, dice.randint(1, STEPS), dice.uniform(0.95, 1.05)
        ends_at = starts_at + self._day.run
        trouble = next((t for t in self._day.troubles if t.hits(workflow, starts_at, ends_at)), None)
        if trouble and dice.random() < trouble.share:
            return self._failure(ends_at, trouble.step, wobble)
        if name in self.never:
            return self._failure(ends_at, own.randint(1, STEPS), wobble)
        return self._failure(ends_at, step, wobble) if flakes else Outcome(ends_at, True)

    def _failure(self, ends_at: datetime, step: int, wobble: float) -> Outcome:
        lasted_ms = round(self._day.run / timedelta(milliseconds=1) * step / STEPS * wobble)
        return Outcome(ends_at, False, Signature("v1", step, round(3 * step * wobble), lasted_ms))


ALL = frozenset(range(20))
WORKING_DAY = Day(
    "the issue's day: five workflows down for 45 min, one broken for 6 h",
    troubles=(
        Trouble(frozenset(range(5)), timedelta(hours=10), timedelta(minutes=45)),
        Trouble(frozenset({7}), timedelta(hours=12), timedelta(hours=6), step=9),
    ),
)
QUIET_DAY = Day("a quiet day")
OUTAGE_DAY = Day(
    "a total outage of half an hour", troubles=(Trouble(ALL, timedelta(hours=10), timedelta(minutes=30)),)
)
BAD_DEPLOY_DAY = Day(
    "a bad deploy of four workflows, rolled back after 2 h",
    troubles=(Trouble(frozenset({2, 3, 11, 17}), timedelta(hours=9), timedelta(hours=2), step=4, share=0.9),),
)
DAYS = (WORKING_DAY, QUIET_DAY, OUTAGE_DAY, BAD_DEPLOY_DAY)


def with_more(day: Day, **changes: object) -> Day:
    """Return a day of another size."""
    return replace(day, **changes)  # type: ignore[arg-type]  # checked by replace
