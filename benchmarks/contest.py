"""Plays a day with every policy, for some seeds, and sums the seeds up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from benchmarks.days import Day, DayWorld
from benchmarks.peers import PEERS, FixedPolicy
from worker.domain.budget import Limits
from worker.domain.policy import Policy, PolicyBook
from worker.replay.ours import Worker
from worker.replay.play import Strategy, play
from worker.replay.score import Score, score
from worker.replay.world import Case

OURS = "this worker, defaults"
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of the table.

    Attributes:
        key: in JSON.
        title: in the table, with its unit.
        decimals: shown; comparisons are made at this precision.
        more_is_better: whether it is.
    """

    key: str
    title: str
    decimals: int
    more_is_better: bool = False

    def as_text(self, value: float) -> str:
        """Return the figure for people.

        >>> COLUMNS[0].as_text(99.96), COLUMNS[2].as_text(math.inf)
        ('100.0', 'never')
        """
        return "never" if math.isinf(value) else f"{value:.{self.decimals}f}"

    def no_worse(self, one: float, other: float) -> bool:
        """Whether one figure is as good as the other, as they are shown."""
        one, other = round(one, self.decimals), round(other, self.decimals)
        return one >= other if self.more_is_better else one <= other


COLUMNS = (
    Column("recovered", "recovered %", 1, more_is_better=True),
    Column("wasted", "failed clones per recovered", 2),
    Column("median", "median min", 1),
    Column("late", "95% min", 1),
    Column("late_of_all", "95% of all min", 1),
    Column("busiest", "most clones in 5 min", 0),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the seeds."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the median and the range."""
        return cls(statistics.median(values), min(values), max(values))


Row = dict[str, Spread]
"""By the columns' keys."""


def strategies(seed: int) -> dict[str, Strategy]:
    """Return everyone who plays, by name, ours last."""
    everyone: dict[str, Strategy] = {name: FixedPolicy(name, delay, seed) for name, delay in PEERS.items()}
    return {**everyone, OURS: Worker(PolicyBook(Policy()), Limits(), seed)}


def play_day(world: DayWorld, strategy: Strategy, notice: timedelta = timedelta(0)) -> list[Case]:
    """Return what a strategy did about the failures of the day."""
    return world.counted(play(world, strategy, notice))


def contest(day: Day, seeds: Iterable[int], notice: timedelta = timedelta(0)) -> dict[str, Row]:
    """Return everyone's figures for the day, over the seeds."""
    scores: dict[str, list[Score]] = {}
    for seed in seeds:
        world = day.with_seed(seed)
        for name, strategy in strategies(seed).items():
            scores.setdefault(name, []).append(score(play_day(world, strategy, notice), world.never))
    return {name: summed_up(each) for name, each in scores.items()}


def summed_up(scores: Sequence[Score]) -> Row:
    """Return the columns' figures over the seeds."""
    rows = [figures(each) for each in scores]
    return {column.key: Spread.of([row[column.key] for row in rows]) for column in COLUMNS}


def figures(of: Score) -> dict[str, float]:
    """Return the columns' figures of one seed; infinity for never."""
    return {
        "recovered": 100 * of.share,
        "wasted": of.wasted_each,
        "median": _minutes(of.median),
        "late": _minutes(of.late),
        "late_of_all": _minutes(of.late_of_all) if of.recoverable else 0.0,
        "busiest": of.busiest,
    }


def _minutes(duration: timedelta | None) -> float:
    return math.inf if duration is None else duration / MINUTE
