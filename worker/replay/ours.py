"""This worker as a strategy: the domain's decisions, put together the way the engine and the ledger do it."""

from __future__ import annotations

import random
from bisect import insort
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from worker.domain import admission
from worker.domain.admission import View
from worker.domain.breaker import UNTOUCHED, Breaker, Mode
from worker.domain.budget import Limit, Limits
from worker.domain.failures import Signature
from worker.domain.health import Ended, Run
from worker.domain.policy import (
    GiveUp,
    History,
    Policy,
    PolicyBook,
    decide,
    ends_at,
    may_start,
    strikes_after,
)
from worker.replay.counts import Counts
from worker.replay.play import Stage
from worker.replay.world import Case, Original, Outcome

MOST_RUNS = 200
LOOK_AGAIN = timedelta(seconds=30)
FIRST_OF_EACH, MOST_AT_ONCE = 50, 200
"""Of those that wait, how many are looked at and let go at a time."""
_ALWAYS, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Workflow:
    """What is known of a workflow, and who waits for it.

    Attributes:
        waiting: whoever failed first comes first; a canary that failed goes to the back.
        first_ends_at: when the first of them may not start any more.
        flying: when its clones in flight were started.
        shut_until: nothing of it may go before this, whatever is heard of others. Only saves work.
    """

    key: str
    policy: Policy
    breaker: Breaker = UNTOUCHED
    runs: deque[Run] = field(default_factory=lambda: deque(maxlen=MOST_RUNS))
    flying: list[datetime] = field(default_factory=list)
    waiting: list[Case] = field(default_factory=list)
    first_ends_at: datetime = _NEVER
    shut_until: datetime = _ALWAYS


@dataclass(slots=True)
class _Facts:
    last_failed_at: datetime
    strikes: int = 0
    signature: Signature | None = None
    last_delay: timedelta | None = None
    struck_since: datetime | None = None


class Worker:
    """Retries as this worker does, with the given policies and limits."""

    def __init__(self, policies: PolicyBook, limits: Limits, seed: int) -> None:
        self._policies = policies
        self._limits = limits
        self._random = random.Random(seed).random
        self._workflows: dict[str, _Workflow] = {}
        self._facts: dict[str, _Facts] = {}
        self._counts: defaultdict[str, Counts] = defaultdict(Counts)
        self._all = Counts()
        self._in_flight = 0
        self._tending = False
        self._stage: Stage

    def begin(self, stage: Stage) -> None:
        """Take the stage."""
        self._stage = stage

    def completed(self, original: Original) -> None:
        """Hear of an original that completed."""
        self._heard(self._workflow(original), Run(original.outcome.ended_at, Ended.COMPLETED))
        self._tend()

    def failed(self, case: Case, outcome: Outcome) -> None:
        """Decide about a failure."""
        workflow, now, failed_at = self._workflow(case.original), self._stage.clock.now, outcome.ended_at
        facts = self._facts.setdefault(case.original.name, _Facts(failed_at))
        if case.attempts:
            self._landed(case, workflow)
        ended = Ended.CLONE_FAILED if case.attempts else Ended.FAILED
        self._heard(workflow, Run(failed_at, ended))
        policy = workflow.policy
        same = outcome.signature is not None and outcome.signature.same_as(facts.signature)
        facts.struck_since = (facts.struck_since or facts.last_failed_at) if same else None
        seen = self._view(workflow, failed_at)
        climate = admission.climate(seen, workflow.runs, now, policy.breaker, facts.struck_since)
        facts.strikes = strikes_after(facts.strikes, climate, same=same)
        facts.signature, facts.last_failed_at = outcome.signature, failed_at
        decision = decide(self._history(case), policy, now, self._random, climate)
        if isinstance(decision, GiveUp):
            case.ended = decision.reason.value
        else:
            facts.last_delay = decision.delay
            self._stage.clock.at(decision.due_at, lambda: self._due(case))
        self._tend()

    def recovered(self, case: Case) -> None:
        """Hear of a clone that completed."""
        workflow = self._workflow(case.original)
        self._landed(case, workflow)
        self._heard(workflow, Run(case.attempts[-1].outcome.ended_at, Ended.CLONE_COMPLETED))
        self._tend()

    def _due(self, case: Case) -> None:
        """Let one go whose time has come, unless it has to wait."""
        workflow = self._workflow(case.original)
        if self._ended(case, workflow) or self._put_off(case, workflow):
            return
        if self._view(workflow, self._facts[case.original.name].last_failed_at).objection:
            insort(workflow.waiting, case, key=self._failed_last_at)
            last_start = ends_at(self._history(case), workflow.policy)
            workflow.first_ends_at = min(workflow.first_ends_at, last_start)
            self._tend()
        else:
            self._go(case, workflow)

    def _ended(self, case: Case, workflow: _Workflow) -> bool:
        objection = may_start(self._history(case), workflow.policy, self._stage.clock.now)
        if objection:
            case.ended = objection.reason.value
        return objection is not None

    def _put_off(self, case: Case, workflow: _Workflow) -> bool:
        """Plan it anew for when the calendar lets it start; False when that is now."""
        calendar, now = workflow.policy.calendar, self._stage.clock.now
        if not calendar.objection(now):
            return False
        opens = calendar.next_open(now)
        if opens is None:
            case.ended = "calendar"
        else:
            self._stage.clock.at(opens, lambda: self._due(case))
        return True

    def _go(self, case: Case, workflow: _Workflow) -> None:
        now = self._stage.clock.now
        self._counts[workflow.key].made(now)
        self._all.made(now)
        workflow.flying.append(now)
        workflow.shut_until = _ALWAYS
        self._in_flight += 1
        self._stage.start(case)

    def _tend(self) -> None:
        """Let what waits go as soon as it may: whenever something was heard, and every so often."""
        now = self._stage.clock.now
        queues = [each for each in self._workflows.values() if each.waiting]
        for each in queues:
            if now >= each.first_ends_at:
                self._end_the_late(each)
        while views := {each.key: seen for each in queues if each.waiting and (seen := self._room(each))}:
            for case in self._chosen(views):
                workflow = self._workflow(case.original)
                workflow.waiting.remove(case)
                if not self._put_off(case, workflow):
                    self._go(case, workflow)
        if not self._tending and any(each.waiting for each in queues):
            self._tending = True
            self._stage.clock.at(now + LOOK_AGAIN, self._tend_again)

    def _tend_again(self) -> None:
        self._tending = False
        self._tend()

    def _chosen(self, views: dict[str, View]) -> list[Case]:
        """Return which of those that wait may go now."""
        waiting = [case for key in views for case in self._workflows[key].waiting[:FIRST_OF_EACH]]
        failed = [(each.original.workflow, self._failed_last_at(each)) for each in waiting]
        return [waiting[position] for position in admission.choose(failed, views, MOST_AT_ONCE)]

    def _room(self, workflow: _Workflow) -> View | None:
        """Return what is known of a workflow of which one more may go; None when none may."""
        if self._stage.clock.now < workflow.shut_until:
            return None
        seen = self._view(workflow)
        if seen.objection is Limit.WORKFLOW_FAILING:
            workflow.shut_until = self._opens_at(seen, workflow)
        return seen if seen.objection is None else None

    def _opens_at(self, seen: View, workflow: _Workflow) -> datetime:
        """Return until when the breaker says no, if nothing is heard of the workflow meanwhile."""
        rule, judged, canary_at = workflow.policy.breaker, seen.judged, seen.standing.next_canary_at
        if judged.mode is Mode.OPEN and canary_at and self._stage.clock.now < canary_at:
            return canary_at
        one_hangs_at = min(self._trying(workflow), default=_NEVER - rule.longest_pause) + rule.longest_pause
        calm_at = judged.since + rule.memory / 2 if judged.mode is Mode.CLOSING and judged.since else _NEVER
        return min(one_hangs_at, calm_at)

    def _trying(self, workflow: _Workflow) -> list[datetime]:
        """Return the starts of its clones in flight that its breaker waits for."""
        since = self._stage.clock.now - workflow.policy.breaker.longest_pause
        return [each for each in workflow.flying if each >= since]

    def _end_the_late(self, workflow: _Workflow) -> None:
        workflow.waiting = [each for each in workflow.waiting if not self._ended(each, workflow)]
        policy = workflow.policy
        ends = (ends_at(self._history(each), policy) for each in workflow.waiting)
        workflow.first_ends_at = min(ends, default=_NEVER)

    def _landed(self, case: Case, workflow: _Workflow) -> None:
        workflow.flying.remove(case.attempts[-1].started_at)
        self._in_flight -= 1

    def _heard(self, workflow: _Workflow, run: Run) -> None:
        workflow.runs.append(run)
        workflow.shut_until = _ALWAYS
        if not run.ended.by_us:
            self._counts[workflow.key].ran(run.ended_at)
            self._all.ran(run.ended_at)

    def _view(self, workflow: _Workflow, failed_at: datetime | None = None) -> View:
        now = self._stage.clock.now
        mine = self._counts[workflow.key]
        counted = self._all.usage(mine, self._limits.window, now)
        usage = replace(
            counted,
            in_flight=len(workflow.flying),
            trying=len(self._trying(workflow)),
            all_in_flight=self._in_flight,
        )
        policy, runs = workflow.policy, workflow.runs
        seen = admission.view(
            workflow.breaker, runs, usage, policy, self._limits, now=now, failed_at=failed_at
        )
        workflow.breaker = seen.judged
        return seen

    def _failed_last_at(self, case: Case) -> datetime:
        return self._facts[case.original.name].last_failed_at

    def _history(self, case: Case) -> History:
        facts = self._facts[case.original.name]
        return History(
            len(case.attempts),
            case.failed_at,
            facts.last_failed_at,
            facts.last_delay,
            facts.strikes,
            facts.signature,
            facts.struck_since,
        )

    def _workflow(self, original: Original) -> _Workflow:
        known = self._workflows.get(original.workflow)
        if known is None:
            name = original.workflow_name or original.workflow
            policy, _ = self._policies.for_workflow(original.workflow, name)
            known = self._workflows[original.workflow] = _Workflow(original.workflow, policy)
        return known
