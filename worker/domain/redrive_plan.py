"""The terms of a redrive: how many first, how fast, in which order, and how long that takes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, zip_longest

MOST_ITEMS = 100_000
"""Of one redrive: its items are kept beside the lineages themselves."""
CANARY_RESERVE = 4
"""Times the canary that are put in front, alternating between workflows: some are skipped in their turn."""
_BURST = timedelta(seconds=2)
"""Of the rate, that may leave at once: turns come about once a second, and a late one is made up for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a person asked for; never changes.

    Attributes:
        id: names it.
        by, why: who, and their words.
        chosen: which lineages, in words.
        total: how many those were when it began.
        canary: how many are tried first; 0 = none.
        rate: releases per second at most.
        stop_share: it stops when more than this share failed again; 1 = never.
        in_flight: released lineages without an outcome, at most.
    """

    id: str
    by: str
    why: str
    chosen: str
    total: int
    started_at: datetime
    canary: int = 5
    rate: float = 1.0
    stop_share: float = 0.5
    in_flight: int = 20

    def __post_init__(self) -> None:
        """Refuse what would never go, or never end."""
        if not (self.canary >= 0 and self.in_flight >= 1 and 0 <= self.stop_share <= 1):
            raise ValueError("takes a canary of 0 or more, 1 or more in flight, and a share between 0 and 1")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError("takes a rate above zero")

    @property
    def burst(self) -> int:
        """How many may be released at once."""
        return max(1, math.ceil(self.rate * _BURST.total_seconds()))

    def tokens(self, left: float | None, since: datetime | None, now: datetime) -> float:
        """Return how many may be released now, when `left` were at `since`; None before the first."""
        if left is None or since is None:
            return float(self.burst)
        passed = max(timedelta(0), now - since)
        return min(float(self.burst), left + passed.total_seconds() * self.rate)


def in_order(
    by_workflow: Mapping[str, Iterable[str]], oldest_first: Iterable[str], canary: int
) -> Iterator[str]:
    """Yield items in the order of their release: first of each workflow in turn, then the oldest first.

    >>> list(in_order({"v": ["1", "2", "3"], "w": ["4"]}, ["1", "2", "3", "4"], canary=0))
    ['1', '2', '3', '4']
    >>> list(in_order({"v": ["1", "2", "3"], "w": ["4"]}, ["1", "2", "3", "4"], canary=1))
    ['1', '4', '2', '3']
    """
    in_turn = chain.from_iterable(zip_longest(*by_workflow.values()))
    first = [each for each in in_turn if each is not None][: canary * CANARY_RESERVE]
    yield from first
    taken = set(first)
    yield from (each for each in oldest_first if each not in taken)


def expected(plan: Plan, items: int, typical: timedelta | None) -> timedelta:
    """Return how long so many items take at least: by the rate, by what may be under way, and for the canary.

    `typical` is how long a run takes; None when nobody knows.
    """
    run = typical or timedelta(0)
    at_the_rate = timedelta(seconds=max(0, items - plan.burst) / plan.rate)
    at_the_bound = run * math.ceil(items / plan.in_flight)
    canary = run if 0 < plan.canary < items else timedelta(0)
    return canary + max(at_the_rate + run, at_the_bound)
