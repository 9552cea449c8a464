"""What a played world consists of: original runs, and what becomes of a clone started at some time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from worker.domain.failures import Signature


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ends.

    Attributes:
        ended_at: when.
        ok: whether it completes.
        signature: of the failure; None when it completes, or nothing is known.
        known: False where nobody can know, and it is played one way or the other.
    """

    ended_at: datetime
    ok: bool
    signature: Signature | None = None
    known: bool = True


@dataclass(frozen=True, slots=True)
class Original:
    """A run that people or programs started.

    Attributes:
        name: of the execution.
        workflow: uuid or name of its workflow.
        outcome: how it ended.
        workflow_name: by which its policy is found besides; "" for the same as `workflow`.
    """

    name: str
    workflow: str
    outcome: Outcome
    workflow_name: str = ""


class World(Protocol):
    """Where runs end one way or another."""

    @property
    def originals(self) -> Sequence[Original]:
        """Every original run, in any order."""

    def clone(self, original: Original, number: int, starts_at: datetime) -> Outcome:
        """Return how the clone that is attempt `number` ends."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """One clone that was made.

    Attributes:
        started_at: when.
        outcome: how it ends.
    """

    started_at: datetime
    outcome: Outcome


@dataclass(slots=True)
class Case:
    """What a strategy did about one failed original.

    Attributes:
        ended: why nothing more is done, as a reason; "" while something may be.
    """

    original: Original
    attempts: list[Attempted] = field(default_factory=list)
    ended: str = ""

    @property
    def failed_at(self) -> datetime:
        """When the original failed."""
        return self.original.outcome.ended_at

    @property
    def recovered_at(self) -> datetime | None:
        """When a clone completed; None when none did."""
        last = self.attempts[-1].outcome if self.attempts else None
        return last.ended_at if last and last.ok else None

    @property
    def wasted(self) -> int:
        """How many clones failed."""
        return sum(not each.outcome.ok for each in self.attempts)
