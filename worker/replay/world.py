"""What a played world consists of: original runs, and what becomes of a clone that is started at some time."""

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
    """

    ended_at: datetime
    ok: bool
    signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """A run that people or programs started.

    Attributes:
        name: of the execution.
        workflow: uuid or name of its workflow.
        outcome: how it ended.
    """

    name: str
    workflow: str
    outcome: Outcome


class World(Protocol):
    """Where runs end one way or another."""

    @property
    def originals(self) -> Sequence[Original]:
        """Every original run, in any order."""

    def clone(self, original: Original, number: int, starts_at: datetime) -> Outcome | None:
        """Return how the clone that is attempt `number` ends; None where nobody can know."""


@dataclass(slots=True)
class Attempted:
    """One clone that was made.

    Attributes:
        started_at: when.
        outcome: how it ends; None when nobody can know.
    """

    started_at: datetime
    outcome: Outcome | None


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
    def unknown(self) -> bool:
        """Whether the outcome of its last clone cannot be known."""
        return bool(self.attempts) and self.attempts[-1].outcome is None

    @property
    def wasted(self) -> int:
        """How many clones failed."""
        return sum(1 for each in self.attempts if each.outcome and not each.outcome.ok)
