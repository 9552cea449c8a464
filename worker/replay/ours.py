"""This worker as a strategy: the domain's decisions, put together the way the engine and the ledger do it."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.domain import admission
from worker.domain.admission import View
from worker.domain.breaker import UNTOUCHED, Breaker
from worker.domain.budget import PACE_WINDOW, Limits, Usage
from worker.domain.failures import Signature
from worker.domain.health import Ended, Run
from worker.domain.policy import GiveUp, History, Policy, PolicyBook, decide, may_start, strikes_after
from worker.replay.play import Stage
from worker.replay.world import Case, Original, Outcome

MOST_RUNS = 200
LOOK_AGAIN = timedelta(seconds=30)


@dataclass(slots=True)
class _Workflow:
    breaker: Breaker = UNTOUCHED
    runs: deque[Run] = field(default_factory=lambda: deque(maxlen=MOST_RUNS))
    ended: deque[datetime] = field(default_factory=deque)
    made: deque[datetime] = field(default_factory=deque)
    in_flight: int = 0
    waiting: list[Case] = field(default_factory=list)


@dataclass(slots=True)
class _Facts:
    strikes: int = 0
    signature: Signature | None = None
    last_failed_at: datetime | None = None
    last_delay: timedelta | None = None
    struck_since: datetime | None = None


class Worker:
    """Retries as this worker does, with the given policies and limits."""

    def __init__(self, policies: PolicyBook, limits: Limits, seed: int) -> None:
        self._policies = policies
        self._limits = limits
        self._random = random.Random(seed).random
        self._workflows: defaultdict[str, _Workflow] = defaultdict(_Workflow)
        self._facts: defaultdict[str, _Facts] = defaultdict(_Facts)
        self._runs: deque[datetime] = deque()
        self._made: deque[datetime] = deque()
        self._lately: deque[datetime] = deque()
        self._in_flight = 0
        self._buckets: defaultdict[int, int] = defaultdict(int)
        self._tending = False
        self._stage: Stage

    def begin(self, stage: Stage) -> None:
        """Take the stage."""
        self._stage = stage

    def completed(self, original: Original) -> None:
        """Hear of an original that completed."""
        self._heard(original.workflow, Ended.COMPLETED)
        self._tend_soon()

    def failed(self, case: Case, outcome: Outcome) -> None:
        """Decide about a failure."""
        name, now = case.original.workflow, self._stage.clock.now
        workflow, facts = self._workflows[name], self._facts[case.original.name]
        same = outcome.signature is not None and outcome.signature.same_as(facts.signature)
        if case.attempts:
            self._landed(workflow)
            self._heard(name, Ended.CLONE_FAILED)
        else:
            self._heard(name, Ended.FAILED)
        seen, policy = self._view(name, now), self._policy(name)
        since = (facts.struck_since or facts.last_failed_at) if same else None
        facts.struck_since = since
        climate = admission.climate(seen, workflow.runs, now, policy.breaker, since)
        facts.strikes = strikes_after(facts.strikes, climate, same=same)
        facts.signature, facts.last_failed_at = outcome.signature, now
        decision = decide(self._history(case), policy, now, self._random, climate)
        if isinstance(decision, GiveUp):
            case.ended = decision.reason.value
        else:
            facts.last_delay = decision.delay
            self._stage.clock.at(decision.due_at, lambda: self._due(case))
        self._tend_soon()

    def recovered(self, case: Case) -> None:
        """Hear of a clone that completed."""
        self._landed(self._workflows[case.original.workflow])
        self._heard(case.original.workflow, Ended.CLONE_COMPLETED)
        self._tend_soon()

    def _due(self, case: Case) -> None:
        name, now = case.original.workflow, self._stage.clock.now
        objection = may_start(self._history(case), self._policy(name), now)
        if objection:
            case.ended = objection.reason.value
            return
        if self._view(name, self._failed_last_at(case)).objection:
            self._workflows[name].waiting.append(case)
            self._tend_soon()
            return
        self._go(case)

    def _go(self, case: Case) -> None:
        workflow, now = self._workflows[case.original.workflow], self._stage.clock.now
        workflow.made.append(now)
        self._made.append(now)
        self._lately.append(now)
        workflow.in_flight += 1
        self._in_flight += 1
        self._stage.start(case)

    def _tend_soon(self) -> None:
        """Let what waits go as soon as it may: whenever something was heard, and every so often."""
        for name, workflow in self._workflows.items():
            if workflow.waiting:
                self._end_the_late(workflow, name)
                workflow.waiting.sort(key=self._failed_last_at)
        while ready := [
            each for name, each in self._workflows.items() if each.waiting and not self._view(name).objection
        ]:
            first = min(ready, key=lambda each: self._failed_last_at(each.waiting[0]))
            self._go(first.waiting.pop(0))
        if not self._tending and any(each.waiting for each in self._workflows.values()):
            self._tending = True
            self._stage.clock.at(self._stage.clock.now + LOOK_AGAIN, self._tend_again)

    def _tend_again(self) -> None:
        self._tending = False
        self._tend_soon()

    def _end_the_late(self, workflow: _Workflow, name: str) -> None:
        now = self._stage.clock.now
        for case in list(workflow.waiting):
            objection = may_start(self._history(case), self._policy(name), now)
            if objection:
                case.ended = objection.reason.value
                workflow.waiting.remove(case)

    def _landed(self, workflow: _Workflow) -> None:
        workflow.in_flight -= 1
        self._in_flight -= 1

    def _heard(self, name: str, ended: Ended) -> None:
        workflow, now = self._workflows[name], self._stage.clock.now
        workflow.runs.append(Run(now, ended))
        if not ended.by_us:
            workflow.ended.append(now)
            self._runs.append(now)
            self._buckets[_bucket(now)] += 1

    def _view(self, name: str, failed_at: datetime | None = None) -> View:
        workflow, now = self._workflows[name], self._stage.clock.now
        since = now - self._limits.window
        usage = Usage(
            runs=_count(workflow.ended, since),
            all_runs=_count(self._runs, since),
            busiest=self._busiest(since),
            made=_count(workflow.made, since),
            all_made=_count(self._made, since),
            made_lately=_count(self._lately, now - PACE_WINDOW),
            in_flight=workflow.in_flight,
            all_in_flight=self._in_flight,
        )
        policy = self._policy(name)
        seen = admission.view(
            workflow.breaker, workflow.runs, usage, policy, self._limits, now=now, failed_at=failed_at
        )
        workflow.breaker = seen.judged
        return seen

    def _busiest(self, since: datetime) -> int:
        oldest = _bucket(since)
        for key in [key for key in self._buckets if key < oldest]:
            del self._buckets[key]
        return max(self._buckets.values(), default=0)

    def _failed_last_at(self, case: Case) -> datetime:
        """Who failed longest ago goes first: a canary that failed goes to the back."""
        return self._facts[case.original.name].last_failed_at or case.failed_at

    def _history(self, case: Case) -> History:
        facts = self._facts[case.original.name]
        last = facts.last_failed_at or case.failed_at
        return History(
            len(case.attempts), case.failed_at, last, facts.last_delay, facts.strikes, facts.signature
        )

    def _policy(self, name: str) -> Policy:
        return self._policies.for_workflow(name, name)[0]


def _bucket(moment: datetime) -> int:
    return int(moment.timestamp() // PACE_WINDOW.total_seconds())


def _count(moments: deque[datetime], since: datetime) -> int:
    while moments and moments[0] < since:
        moments.popleft()
    return len(moments)
