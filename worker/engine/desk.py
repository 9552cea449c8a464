"""What this process knows of workflows: read from the ledger, judged, and kept for a moment.

Everything that depends on how a workflow does otherwise asks here: whether a failure is retried at once,
whether a clone may go, what is released. It is knowledge of a moment; the ledger holds every intent against
its own counts again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from worker.domain import admission, budget
from worker.domain.admission import View
from worker.domain.breaker import Breaker, Mode
from worker.domain.budget import Limit, Limits
from worker.domain.executions import Execution
from worker.domain.health import Run
from worker.domain.lineage import Lineage
from worker.domain.policy import Climate, Policy, PolicyBook
from worker.ledger import Admission, Ledger, Rate
from worker.ledger.pauses import ITS_END
from worker.ledger.workflows import MOST_RUNS, BreakerTold, Known, Length

FRESH_FOR = timedelta(seconds=1)
FORGOTTEN_AFTER = timedelta(minutes=5)
_CANARY_FAILED = "workflow_canary_failed"
_EVENTS = {
    Mode.OPEN: "workflow_breaker_opened",
    Mode.CLOSING: "workflow_breaker_closing",
    Mode.CLOSED: "workflow_breaker_closed",
}


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow, as far as it is known by name.

    Attributes:
        key: what it is counted under.
        uuid, name: by which its policy is found; "" when the API does not tell.
    """

    key: str
    uuid: str = ""
    name: str = ""

    @classmethod
    def of(cls, whose: Lineage | Execution) -> Workflow:
        """Return the workflow of a lineage or an execution."""
        return cls(whose.workflow, whose.workflow_uuid, whose.workflow_name)


class Desk:
    """The knowledge of one process."""

    def __init__(
        self,
        ledger: Ledger,
        policies: Callable[[], PolicyBook],
        limits: Callable[[], Limits],
        log: Any,
        *,
        counts_runs: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ledger = ledger
        self._policies = policies
        self._limits_set = limits
        self._log = log
        self._counts_runs = counts_runs
        self._known: dict[str, Known] = {}
        self._read_at_s: dict[str, float] = {}
        self._looking = asyncio.Lock()
        # Clones about to be made since a workflow was read: its own, and of all when it was read.
        self._made: defaultdict[str, int] = defaultdict(int)
        self._made_of_all = 0
        self._of_all_when_read: dict[str, int] = {}
        self._lengths: list[Length] = []

    def surveyed_at(self, workflow: Workflow) -> datetime | None:
        """Return up to when the newest executions were read; None when that is too long ago to tell."""
        known = self._known.get(workflow.key)
        return known.surveyed_at if known else None

    def lengths(self, workflow: Workflow) -> tuple[timedelta, ...]:
        """Return how long its newest runs took, as far as this process knows without asking."""
        known = self._known.get(workflow.key)
        return known.lengths if known else ()

    def took(self, workflow: Workflow, uuid: str, ended_at: datetime, took: timedelta) -> None:
        """Take in how long a run took; it is put on record by `save_lengths`."""
        if took > timedelta(0):
            self._lengths.append(Length(workflow.key, uuid, ended_at, took))

    async def save_lengths(self) -> None:
        """Put on record how long runs took: of use for all, and nothing is lost with it."""
        lengths, self._lengths = self._lengths, []
        await self._ledger.workflows.note_lengths(lengths)

    async def look(self, workflows: Iterable[Workflow], *, fresh: bool = False) -> None:
        """Know these workflows: read what is not `FRESH_FOR` (or all of it), and judge their breakers."""
        wanted = {each.key: each for each in workflows}
        async with self._looking:  # who comes second finds what the first has read
            now_s = time.monotonic()
            oldest_s = float("inf") if fresh else now_s - FRESH_FOR.total_seconds()
            stale = [key for key in wanted if self._read_at_s.get(key, float("-inf")) < oldest_s]
            if not stale:
                return
            self._forget(now_s - FORGOTTEN_AFTER.total_seconds())
            pauses = {key: self.policy(wanted[key]).breaker.longest_pause for key in stale}
            of_all = self._made_of_all
            self._known |= await self._ledger.workflows.look(stale, self._limits().window, pauses)
            for key in stale:
                self._read_at_s[key], self._of_all_when_read[key] = now_s, of_all
                self._made.pop(key, None)
                await self._judge(wanted[key])

    def _forget(self, before_s: float) -> None:
        """Forget what nobody has asked for lately; whoever looked a moment ago still needs it."""
        for key in [key for key, at_s in self._read_at_s.items() if at_s < before_s]:
            for of_each in (self._known, self._read_at_s, self._of_all_when_read, self._made):
                of_each.pop(key, None)

    def view(self, workflow: Workflow, failed_at: datetime | None = None) -> View:
        """Return what is known of a workflow for a run of it that failed at `failed_at`; after `look`.

        None for the failures that wait: those from before the workflow recovered.
        """
        key, known = workflow.key, self._known[workflow.key]
        of_all = self._made_of_all - self._of_all_when_read[key]
        return admission.view(
            known.breaker,
            known.runs,
            budget.more(known.usage, self._made[key], of_all),
            self.policy(workflow),
            self._limits(),
            now=self._ledger.clock.now(),
            failed_at=failed_at,
            known_until=known.surveyed_at,
        )

    def climate(
        self, workflow: Workflow, failed_at: datetime, struck_since: datetime | None = None
    ) -> Climate:
        """Return how the workflow does otherwise, for a failure of it; see `admission.climate`."""
        known, rule = self._known[workflow.key], self.policy(workflow).breaker
        seen = self.view(workflow, failed_at)
        return admission.climate(seen, known.runs, self._ledger.clock.now(), rule, struck_since)

    def expect(self, workflow: Workflow, run: Run) -> None:
        """Take in a run that is about to be put on record."""
        known = self._known[workflow.key]
        self._known[workflow.key] = replace(known, runs=(*known.runs, run)[-MOST_RUNS:])

    def made(self, workflow: Workflow) -> None:
        """Take in that a clone of the workflow is about to be made."""
        self._made[workflow.key] += 1
        self._made_of_all += 1

    def admission(self, workflow: Workflow, seen: View, rate: Rate | None) -> Admission:
        """Return what an intent of the workflow is held against."""
        return Admission(
            workflow.key,
            seen.judged.version,
            seen.caps,
            self._limits().window,
            self.policy(workflow).breaker.longest_pause,
            rate,
        )

    def in_words(self, limit: Limit, seen: View) -> str:
        """Return why a clone has to wait, with the figures."""
        return admission.in_words(limit, seen, self._limits())

    def policy(self, workflow: Workflow) -> Policy:
        """Return the policy in force for a workflow."""
        policy, _ = self._policies().for_workflow(workflow.uuid, workflow.name)
        return policy if self._counts_runs() else _without_share(policy)

    def _limits(self) -> Limits:
        """Return the limits in force: no share of runs where only those that fail are known."""
        limits = self._limits_set()
        return limits if self._counts_runs() else _unshared(limits)

    async def tell(self, workflow: Workflow, before: Breaker, after: Breaker, **facts: str) -> bool:
        """Store a breaker and say so; False when someone else changed it meanwhile."""
        named = replace(after, workflow_uuid=workflow.uuid, workflow_name=workflow.name)
        event = _CANARY_FAILED if after.mode is before.mode else _EVENTS[after.mode]
        known: dict[str, str] = {
            "workflow_uuid": workflow.uuid or workflow.key,
            "workflow_name": workflow.name,
            "detail": after.detail,
            **facts,
        }
        if before.forced and not after.forced:  # what a person said has run out
            event = "workflow_breaker_forced"
            known |= {"to": "auto", "by": ITS_END, "why": before.detail}
        stored = await self._ledger.workflows.store(BreakerTold(workflow.key, before, named, event, known))
        if stored:
            tell = self._log.warning if after.mode is Mode.OPEN else self._log.info
            tell(event, **{name: fact for name, fact in known.items() if fact})
        return stored

    async def _judge(self, workflow: Workflow) -> None:
        known = self._known[workflow.key]
        seen = self.view(workflow)
        if seen.judged is not known.breaker:
            if await self.tell(workflow, known.breaker, seen.judged):
                self._known[workflow.key] = replace(known, breaker=seen.judged)
            else:
                self._read_at_s[workflow.key] = 0  # someone else was first: read it again next time


@lru_cache(maxsize=256)
def _without_share(policy: Policy) -> Policy:
    return replace(policy, limits=replace(policy.limits, share=0))


@lru_cache(maxsize=256)
def _unshared(limits: Limits) -> Limits:
    return replace(limits, share=0)
