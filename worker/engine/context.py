"""What every use case is handed, and the few things all of them do the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import structlog

from worker.domain.budget import PLATFORM_LIMITS, Limits
from worker.domain.joining import Shared
from worker.domain.lineage import Lineage
from worker.domain.policy import Policy, PolicyBook, Random
from worker.domain.transitions import Change, Event
from worker.domain.watching import LONGEST_FIRST_PAUSE, LONGEST_PAUSE, first_look_in
from worker.engine.calls import Api
from worker.engine.desk import Desk, Workflow
from worker.engine.gatekeeper import Gatekeeper
from worker.engine.log_rules import Logs, Readings
from worker.engine.payloads import Payloads
from worker.engine.tracing import NO_TRACING, Tracer
from worker.ledger import Admission, Ledger, Outcome, Rate
from worker.ledger.gate import Halt

CLOCK_MARGIN = timedelta(seconds=5)
"""What the API's clock and ours may disagree by beyond the skew that we measure: its `Date` header has
whole seconds and some servers make it once a second."""
TURN_LEASE = timedelta(seconds=10)
"""How long a turn at a job outlives its worker. It is kept up while the job goes on: that may take longer."""
_LOUD = frozenset(
    {"retry_unresolved", "retry_not_delivered", "retry_held", "retry_rejected", "retries_exhausted"}
)


@dataclass(frozen=True, slots=True)
class Options:
    """The settings that the use cases need.

    Attributes:
        request_bound: the longest that one call to the API can take, connecting included.
        lists: whether this deployment has a listing that we may use.
        newest_first: whether that listing is in order of creation, newest first.
        filters: whether it can be asked for the executions of one status.
        many_looks: looks due at once for which the list is read instead.
        submit_concurrency: retry calls, and looks, under way at once per process.
        linger: how long a task that has nothing more to do waits for what falls due within that time.
        slow_start: how long a call that nobody knows to be answered holds up the next one.
        batch_budget: how long one task goes on starting new work.
        limits: of the clones of all workflows together.
        survey: whether the newest executions of every status are read as well.
        survey_patience: how long a failure waits for the first reading of them, after a time without any.
        rate, burst: retry calls per second of all workers together (0 = no limit), and how many may leave at
            once.
        release_interval: shortest pause between two looks at who waits for their workflow.
        look_again: how long a lineage waits for its workflow before it is looked at all the same.
    """

    request_bound: timedelta = timedelta(seconds=35)
    lists: bool = True
    newest_first: bool = True
    filters: bool = True
    many_looks: int = 20
    discovery_interval: timedelta = timedelta(seconds=30)
    discovery_sweep: timedelta = timedelta(minutes=10)
    discovery_lookback: timedelta = timedelta(hours=24)
    discovery_backfill: timedelta = timedelta(0)
    submit_batch: int = 100
    submit_concurrency: int = 20
    submit_lease: timedelta = timedelta(minutes=2)
    linger: timedelta = timedelta(0)
    slow_start: timedelta = timedelta(seconds=2)
    watch_interval: timedelta = timedelta(seconds=5)
    watch_timeout: timedelta = timedelta(hours=24)
    resolve_interval: timedelta = timedelta(seconds=5)
    resolve_grace: timedelta = timedelta(seconds=60)
    resolve_unclear: Literal["hold", "adopt", "retry"] = "hold"
    retention: timedelta = timedelta(days=30)
    batch_budget: timedelta = timedelta(seconds=5)
    limits: Limits = PLATFORM_LIMITS
    survey: bool = True
    survey_patience: timedelta = timedelta(minutes=10)
    rate: float = 0
    burst: int = 10
    release_interval: timedelta = timedelta(seconds=0.9)
    look_again: timedelta = timedelta(minutes=10)

    @property
    def surveys(self) -> bool:
        """Whether completed runs are known."""
        return self.survey and self.lists and self.newest_first

    @property
    def token_bucket(self) -> Rate | None:
        """How fast retry calls may leave; None = as fast as they come."""
        return Rate(self.rate, self.burst) if self.rate else None


@dataclass(slots=True)
class Context:
    """The world of a use case.

    Attributes:
        api: as it was handed in; use cases call it through `calls` only.
        calls: the same API behind the gate that all workers share.
        payloads: what this process has learned of payloads that a listing leaves out.
        desk: what it knows of workflows.
        shared_keys: payloads of which it found that ordinary runs share them.
        readings: what it knows of the place where logs are kept.
        unsurveyed_since: since when this process finds that the newest executions were not read lately; None
            when they were.
        waited: how long this process tries to reach the ledger for the first time; zero once it has.
        stopping: whether the process is asked to end: finish what is under way, start nothing.
        logs: reads the logs of failed runs; None where they are not to be read.
        tracer: sees what is done; unless told otherwise it keeps nothing.
        paused: the pause of everything that this process has told of last; None when there was none.
    """

    ledger: Ledger
    api: Api
    policies: PolicyBook
    options: Options
    random: Random
    waited: Callable[[], timedelta] = lambda: timedelta(0)
    stopping: Callable[[], bool] = lambda: False
    logs: Logs | None = None
    tracer: Tracer = NO_TRACING
    log: Any = field(default_factory=lambda: structlog.get_logger("worker").bind())
    calls: Gatekeeper = field(init=False)
    payloads: Payloads = field(default_factory=Payloads)
    shared_keys: Shared = field(default_factory=Shared)
    readings: Readings = field(default_factory=Readings)
    paused: Halt | None = None
    unsurveyed_since: datetime | None = None
    desk: Desk = field(init=False)

    def __post_init__(self) -> None:
        """Put the gate before the API, and the desk before the ledger."""
        self.desk = Desk(
            self.ledger,
            lambda: self.policies,
            lambda: self.options.limits,
            self.log,
            counts_runs=lambda: self.options.surveys,
        )
        self.calls = Gatekeeper(self.api, self.ledger, self.log, lists=lambda: self.options.lists)

    def now(self) -> datetime:
        """Return the time, by the Redis server's clock."""
        return self.ledger.clock.now()

    def policy_for(self, lineage: Lineage) -> tuple[Policy, str]:
        """Return the policy in force for a lineage and the name of its entry."""
        return self.policies.for_workflow(lineage.workflow_uuid, lineage.workflow_name)

    def first_look_at(self, lineage: Lineage) -> datetime:
        """Return when the run that a lineage has just got is looked at first: when it is likely over."""
        newest, shortest = lineage.newest, self.options.watch_interval
        soon = self.now() + shortest
        if newest.in_place or not newest.alive:
            return soon
        lengths = self.desk.lengths(Workflow.of(lineage))
        longest = LONGEST_FIRST_PAUSE if self.options.surveys else LONGEST_PAUSE
        return max(soon, newest.submitted_at + first_look_in(lengths, shortest, longest))

    async def commit(
        self, change: Change, *, next_at: datetime | None = None, admission: Admission | None = None
    ) -> Outcome:
        """Store a change and log the events it tells; the loser of a race drops its change and says so."""
        outcome = await self.ledger.commit(change, next_at=next_at, admission=admission)
        if outcome is Outcome.COMMITTED:
            for event in change.events:
                self._tell(change.after, event)
            self.tracer.told(change)
        else:
            wanted = change.after.state.value
            self.log.debug("commit_dropped", root=change.after.root, wanted=wanted, outcome=outcome.value)
        return outcome

    def _tell(self, lineage: Lineage, event: Event) -> None:
        facts = {key: value for key, value in event.facts.items() if value not in (None, "")}
        tell = self.log.warning if event.name in _LOUD else self.log.info
        tell(
            event.name,
            root=lineage.root,
            workflow_uuid=lineage.workflow_uuid,
            workflow_name=lineage.workflow_name,
            **facts,
        )
