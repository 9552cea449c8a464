"""Small worlds made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from worker.domain.budget import Limits, WorkflowLimits
from worker.domain.failures import Signature
from worker.domain.policy import Jitter, Policy, PolicyBook
from worker.replay.ours import Worker
from worker.replay.play import play
from worker.replay.world import Case, Original, Outcome

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STUCK = Signature("v1", 7, 21, 60_000)
NO_SHARES = Limits(share=0, pace=0)
FREE = WorkflowLimits(share=0, floor=0)
STEADY = Policy(jitter=Jitter.NONE, limits=FREE)

Fate = Callable[[Original, int, datetime], Outcome]


def at(minutes: float) -> datetime:
    return NOON + minutes * MINUTE


def fails(ended_at: datetime, signature: Signature | None = None) -> Outcome:
    return Outcome(ended_at, ok=False, signature=signature)


def completes(ended_at: datetime) -> Outcome:
    return Outcome(ended_at, ok=True)


def failed(name: str, minute: float, workflow: str = "w", signature: Signature | None = None) -> Original:
    return Original(name, workflow, fails(at(minute), signature))


def completed(minutes: Iterable[float], workflow: str = "w") -> list[Original]:
    return [Original(f"well-{workflow}-{n}", workflow, completes(at(n))) for n in minutes]


class SmallWorld:
    """Originals as given; clones take a minute and end as `fate` says, or complete."""

    def __init__(self, originals: Sequence[Original], fate: Fate | None = None) -> None:
        self._originals = originals
        self._fate = fate

    @property
    def originals(self) -> Sequence[Original]:
        return self._originals

    def clone(self, original: Original, number: int, starts_at: datetime) -> Outcome:
        if self._fate is None:
            return completes(starts_at + MINUTE)
        return self._fate(original, number, starts_at)


def down_until(minute: float) -> Fate:
    """Return the fate of clones of a workflow that fails whatever was started before that minute."""
    return lambda _original, _number, starts_at: Outcome(starts_at + MINUTE, ok=starts_at >= at(minute))


def played(
    originals: Sequence[Original],
    fate: Fate | None = None,
    policy: Policy = STEADY,
    limits: Limits = NO_SHARES,
) -> dict[str, Case]:
    cases = play(SmallWorld(originals, fate), Worker(PolicyBook(policy), limits, seed=1))
    return {case.original.name: case for case in cases}


def starts(cases: Iterable[Case]) -> list[datetime]:
    return sorted(clone.started_at for case in cases for clone in case.attempts)


def in_flight(cases: Iterable[Case], moment: datetime) -> int:
    clones = [clone for case in cases for clone in case.attempts]
    return sum(clone.started_at <= moment < clone.outcome.ended_at for clone in clones)
