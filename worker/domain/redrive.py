"""A redrive: many dead letters retried once more at a person's word, a few of them first. Pure.

Owns how it goes: a canary of a few lineages, all judged before anything else goes; then the rest, at a rate
and with only so many under way, until too many of the newest failed again. What was not released then stays
as it was. Knows nothing of how that is stored, nor of what becomes of a single lineage (`redriven`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain, zip_longest

WINDOW = 20
"""Newest outcomes by which it is judged once the canary has passed."""
ENOUGH = 5
"""Outcomes that it takes at least to stop it then."""
RELEASED_AT_ONCE = 100
MOST_ITEMS = 100_000
"""Of one redrive: its items are kept beside the lineages themselves."""
CANARY_RESERVE = 4
"""Times the canary that are put in front, alternating between workflows: some are skipped in their turn."""
_BURST = timedelta(seconds=2)
"""Of the rate, that may leave at once: turns come about once a second, and a late one is made up for."""


class Status(StrEnum):
    """Where a redrive stands."""

    RUNNING = "running"
    PAUSED = "paused"
    """By a person; what is under way is followed to its end."""
    STOPPED = "stopped"
    """By itself: too many failed again. A person may resume it, with a new canary."""
    CANCELLED = "cancelled"
    FINISHED = "finished"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is released, unless a person resumes it."""
        return self in (Status.STOPPED, Status.CANCELLED, Status.FINISHED)


class Phase(StrEnum):
    """What a redrive is at."""

    CANARY = "canary"
    REST = "rest"


class Outcome(StrEnum):
    """What became of an item."""

    RECOVERED = "recovered"
    FAILED = "failed"
    """Its clone failed again."""
    LOST = "lost"
    """It came to nothing else: its call was refused, or nobody knows what became of its call or its clone."""
    TAKEN_OVER = "taken_over"
    """A person decided otherwise after it was released."""
    SKIPPED = "skipped"
    """It was not released: it was no longer what had been chosen, or must not be retried."""

    @property
    def verdict(self) -> bool | None:
        """Whether it speaks for going on; None when it says nothing of that."""
        return {Outcome.RECOVERED: True, Outcome.FAILED: False, Outcome.LOST: False}.get(self)


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


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a redrive stands, and who or what brought it there.

    Attributes:
        version: grows with every change.
        round: grows whenever it begins to judge anew: what went before a person resumed it says nothing of
            how it goes now.
        told: the name of the event that said so.
        by, why: who, and their words; by "" it decided by itself, and `why` gives the figures.
    """

    status: Status
    phase: Phase
    since: datetime
    version: int = 1
    round: int = 1
    told: str = "redrive_started"
    by: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a redrive is.

    Attributes:
        pending: items that were not released yet.
        flying: released ones without an outcome; `of_round`: those of them that this round released.
        outcomes: how many ended how.
        recent: the newest verdicts of this round, the last one last.
        tokens: releases that the rate allows now.
    """

    pending: int
    flying: int = 0
    of_round: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    recent: tuple[bool, ...] = ()
    tokens: float = 0

    @property
    def done(self) -> int:
        """Items that have an outcome."""
        return sum(self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Release:
    """Release so many now."""

    count: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may be released now."""


@dataclass(frozen=True, slots=True)
class Move:
    """It comes to stand elsewhere, for this reason."""

    status: Status
    phase: Phase
    told: str
    why: str


def step(plan: Plan, standing: Standing, tally: Tally) -> Release | Wait | Move:
    """Return what comes next."""
    if standing.status is not Status.RUNNING:
        return Wait()
    if not tally.pending and not tally.flying:
        why = "every item has its outcome"
        return Move(Status.FINISHED, standing.phase, "redrive_finished", why)
    canary = standing.phase is Phase.CANARY
    stopped = _canary_failed(plan, tally) if canary else _too_many_failed(plan, tally)
    if stopped:
        return Move(Status.STOPPED, standing.phase, "redrive_stopped", stopped)
    room = plan.in_flight - tally.flying
    if canary:
        missing = plan.canary - len(tally.recent)
        if missing <= 0 or (not tally.pending and not tally.of_round):
            why = f"{sum(tally.recent)} of {len(tally.recent)} canaries recovered"
            return Move(Status.RUNNING, Phase.REST, "redrive_canary_passed", why)
        room = min(room, missing - tally.of_round)
    count = min(room, tally.pending, math.floor(tally.tokens), RELEASED_AT_ONCE)
    return Release(count) if count > 0 else Wait()


def _canary_failed(plan: Plan, tally: Tally) -> str:
    """Return why the canary is lost, whatever those that are under way come to; "" while it is not."""
    canaries = min(plan.canary, len(tally.recent) + tally.of_round + tally.pending)
    failed = tally.recent.count(False)
    if failed <= plan.stop_share * canaries:
        return ""
    return f"{failed} of {canaries} canaries failed again, more than {plan.stop_share:.0%}"


def _too_many_failed(plan: Plan, tally: Tally) -> str:
    judged, failed = len(tally.recent), tally.recent.count(False)
    if judged < ENOUGH or failed <= plan.stop_share * judged:
        return ""
    return f"{failed} of the last {judged} failed again, more than {plan.stop_share:.0%}"


def resumed(standing: Standing, plan: Plan, *, by: str, why: str, now: datetime) -> Standing:
    """Return it going on: where it was if it was paused, with a new canary if it had stopped by itself."""
    anew = standing.status is Status.STOPPED
    return Standing(
        Status.RUNNING,
        first_phase(plan) if anew else standing.phase,
        now,
        version=standing.version + 1,
        round=standing.round + anew,
        told="redrive_resumed",
        by=by,
        why=why,
    )


def first_phase(plan: Plan) -> Phase:
    """Return what a redrive begins with."""
    return Phase.CANARY if plan.canary else Phase.REST


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
