"""A redrive: many dead letters retried once more at a person's word, a few of them first. Pure.

Owns how it goes: a canary of a few lineages, all judged before anything else goes; then the rest, at a rate
and with only so many under way, until too many of the newest failed again. What was not released then stays
as it was. Its terms are a `redrive_plan`. Knows nothing of how that is stored, nor of what becomes of a
single lineage (`redriven`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from worker.domain.redrive_plan import Plan

WINDOW = 20
"""Newest outcomes by which it is judged once the canary has passed."""
MOST_CANARIES = 1000
"""The longest canary. So many of the newest verdicts of a round are kept, so that it is judged whole."""
ENOUGH = 5
"""Outcomes that it takes at least to stop it then."""
RELEASED_AT_ONCE = 100
_EVENTS = {
    "started": "redrive_started",
    "canary_passed": "redrive_canary_passed",
    "stopped": "redrive_stopped",
    "paused": "redrive_paused",
    "resumed": "redrive_resumed",
    "cancelled": "redrive_cancelled",
    "finished": "redrive_finished",
}


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
    told: str = ""
    by: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a redrive is.

    Attributes:
        pending: items that were not released yet.
        flying: released ones without an outcome; `of_round`: those of them that this round released.
        outcomes: how many ended how.
        recent: the newest verdicts of this round, the last one last; `MOST_CANARIES` at most.
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
    why: str


def step(plan: Plan, standing: Standing, tally: Tally) -> Release | Wait | Move:
    """Return what comes next."""
    if standing.status is not Status.RUNNING:
        return Wait()
    if not tally.pending and not tally.flying:
        return Move(Status.FINISHED, standing.phase, "every item has its outcome")
    canary = standing.phase is Phase.CANARY
    stopped = _canary_failed(plan, tally) if canary else _too_many_failed(plan, tally)
    if stopped:
        return Move(Status.STOPPED, standing.phase, stopped)
    room = plan.in_flight - tally.flying
    if canary:
        missing = plan.canary - len(tally.recent)
        if missing <= 0 or (not tally.pending and not tally.of_round):
            why = f"{sum(tally.recent)} of {len(tally.recent)} canaries recovered"
            return Move(Status.RUNNING, Phase.REST, why)
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
    newest = tally.recent[-WINDOW:]
    judged, failed = len(newest), newest.count(False)
    if judged < ENOUGH or failed <= plan.stop_share * judged:
        return ""
    return f"{failed} of the last {judged} failed again, more than {plan.stop_share:.0%}"


def begun(plan: Plan) -> Standing:
    """Return where a redrive stands when it begins."""
    told = _EVENTS["started"]
    return Standing(Status.RUNNING, first_phase(plan), plan.started_at, told=told, by=plan.by, why=plan.why)


def moved(standing: Standing, move: Move, now: datetime) -> Standing:
    """Return where it stands after it moved by itself."""
    told = _EVENTS["canary_passed" if move.status is Status.RUNNING else move.status.value]
    version = standing.version + 1
    return Standing(move.status, move.phase, now, version, standing.round, told, why=move.why)


def said(standing: Standing, plan: Plan, to: Status, *, by: str, why: str, now: datetime) -> Standing:
    """Return where it stands at a person's word.

    Resumed it goes on where it was, with a new canary if it had stopped by itself.
    """
    resumes = to is Status.RUNNING
    anew = resumes and standing.status is Status.STOPPED
    phase = first_phase(plan) if anew else standing.phase
    told = _EVENTS["resumed" if resumes else to.value]
    return Standing(to, phase, now, standing.version + 1, standing.round + anew, told, by, why)


def first_phase(plan: Plan) -> Phase:
    """Return what a redrive begins with."""
    return Phase.CANARY if plan.canary else Phase.REST
