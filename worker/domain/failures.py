"""When two failures are the same failure: the signature of a failed run, and strikes. Pure.

A run that fails at the same step in the same way again is not unlucky. The API tells how many steps a run
took, how many actions and how long, and no more; that is enough to tell "it got stuck at step 7 as before"
from "something else happened this time".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from worker.domain.executions import Execution

DURATION_SLACK = timedelta(seconds=5)
DURATION_SHARE = 0.25
ACTIONS_SLACK = 2
ACTIONS_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Signature:
    """What is known of a failed run.

    Attributes:
        version: the workflow's version.
        n_steps, n_agent_actions, duration_ms: as the API gave them; None when it did not.
    """

    version: str
    n_steps: int | None
    n_agent_actions: int | None = None
    duration_ms: int | None = None

    @classmethod
    def of(cls, run: Execution) -> Signature | None:
        """Return a failed run's signature; None when the API does not say how many steps it took."""
        if run.n_steps is None:
            return None
        return cls(run.workflow_version_uuid, run.n_steps, run.n_agent_actions, run.duration_ms)

    def same_as(self, other: Signature | None) -> bool:
        """Whether the two are the same failure, as far as both are known.

        The same version and the same number of steps; durations within a quarter (or 5 s) of each other,
        actions within a fifth (or 2): machines and pages are never equally fast.

        >>> stuck = Signature("v1", 7, 21, 60_000)
        >>> stuck.same_as(Signature("v1", 7, 22, 66_000)), stuck.same_as(Signature("v1", 7, 21, 200_000))
        (True, False)
        >>> stuck.same_as(Signature("v1", 8)), stuck.same_as(Signature("v1", 7)), stuck.same_as(None)
        (False, True, False)
        """
        if other is None or (self.version, self.n_steps) != (other.version, other.n_steps):
            return False
        slack_ms = DURATION_SLACK / timedelta(milliseconds=1)
        return _near(self.duration_ms, other.duration_ms, slack_ms, DURATION_SHARE) and _near(
            self.n_agent_actions, other.n_agent_actions, ACTIONS_SLACK, ACTIONS_SHARE
        )

    @property
    def in_words(self) -> str:
        """Where it failed, for people."""
        words = [f"step {self.n_steps}"]
        if self.n_agent_actions is not None:
            words.append(f"{self.n_agent_actions} actions")
        if self.duration_ms is not None:
            words.append(f"{self.duration_ms / 1000:.0f} s")
        return ", ".join(words)


def _near(one: int | None, other: int | None, slack: float, share: float) -> bool:
    if one is None or other is None:
        return True
    return abs(one - other) <= max(slack, share * max(abs(one), abs(other)))
