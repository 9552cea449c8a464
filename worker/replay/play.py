"""Play a strategy against a world."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from worker.replay.clock import VirtualClock
from worker.replay.world import Attempted, Case, Original, Outcome, World

LONGEST = timedelta(days=60)
"""After the last original, nothing is waited for any longer than this."""


class Stage:
    """What a strategy acts on: the clock, and the way to make a clone."""

    def __init__(self, clock: VirtualClock, start: Callable[[Case], None]) -> None:
        self.clock = clock
        self.start = start


class Strategy(Protocol):
    """Decides what is cloned and when. Hears of every end when it is noticed; `outcome` says when it was."""

    def begin(self, stage: Stage) -> None:
        """Take the stage, before anything happens."""

    def completed(self, original: Original) -> None:
        """Hear of an original that completed."""

    def failed(self, case: Case, outcome: Outcome) -> None:
        """Hear that the original, or the newest clone, failed."""

    def recovered(self, case: Case) -> None:
        """Hear that the newest clone completed."""


def play(world: World, strategy: Strategy, notice: timedelta = timedelta(0)) -> list[Case]:
    """Return what the strategy did about every original that failed, in the order of failure.

    Args:
        world: what happens.
        strategy: who acts on it.
        notice: how long after a run ended the strategy hears of it.
    """
    originals = sorted(world.originals, key=lambda each: (each.outcome.ended_at, each.name))
    if not originals:
        return []
    clock = VirtualClock(originals[0].outcome.ended_at)
    cases: list[Case] = []

    def start(case: Case) -> None:
        outcome = world.clone(case.original, len(case.attempts) + 1, clock.now)
        case.attempts.append(Attempted(clock.now, outcome))
        clock.at(outcome.ended_at + notice, lambda: end(case, outcome))

    def end(case: Case, outcome: Outcome) -> None:
        if outcome.ok:
            case.ended = "completed"
            strategy.recovered(case)
        else:
            strategy.failed(case, outcome)

    def original_ends(original: Original) -> None:
        if original.outcome.ok:
            strategy.completed(original)
        else:
            case = Case(original)
            cases.append(case)
            strategy.failed(case, original.outcome)

    strategy.begin(Stage(clock, start))
    for original in originals:
        noticed_at = original.outcome.ended_at + notice
        clock.at(noticed_at, lambda each=original: original_ends(each))  # type: ignore[misc]  # bound now
    clock.run(originals[-1].outcome.ended_at + LONGEST)
    return cases
