"""What every use case is handed, and the few things all of them do the same way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import structlog

from worker.domain.delivery import Delivery
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage
from worker.domain.policy import Policy, PolicyBook, Random
from worker.domain.transitions import Change, Event
from worker.kinetic import KineticError, Page, Throttled, Unauthorized
from worker.ledger import Ledger, Outcome

CLOCK_MARGIN = timedelta(seconds=5)
"""What the API's clock and ours may disagree by beyond the skew that we measure: its `Date` header has
whole seconds and some servers make it once a second."""
FIRST_PROBE_IN = timedelta(seconds=5)
_LOUD = frozenset(
    {"retry_unresolved", "retry_not_delivered", "retry_held", "retry_rejected", "retries_exhausted"}
)


class Api(Protocol):
    """The Kinetic API, as the use cases need it; `worker.kinetic.KineticClient` is one."""

    @property
    def skew(self) -> timedelta:
        """The API's clock minus ours."""

    async def retry(self, execution_uuid: str) -> Delivery:
        """Ask for a retry; never raises."""

    async def get(self, execution_uuid: str) -> Execution:
        """Return an execution; raises `KineticError`."""

    def pages(self, *, status: Status | None, since: datetime | None = None) -> AsyncIterator[Page]:
        """Return the listing page by page; raises `KineticError`."""

    async def probe(self) -> None:
        """Return when the API answers a GET; raises `KineticError`."""


@dataclass(frozen=True, slots=True)
class Options:
    """The settings that the use cases need.

    Attributes:
        request_bound: the longest that one call to the API can take, connecting included.
        lists: whether this deployment has a listing that we may use.
        newest_first: whether that listing is in order of creation, newest first.
        submit_concurrency: retry calls, and looks, under way at once per process.
        batch_budget: how long one task goes on starting new work.
    """

    request_bound: timedelta = timedelta(seconds=35)
    lists: bool = True
    newest_first: bool = True
    discovery_interval: timedelta = timedelta(seconds=30)
    discovery_sweep: timedelta = timedelta(minutes=10)
    discovery_lookback: timedelta = timedelta(hours=24)
    discovery_backfill: timedelta = timedelta(0)
    submit_batch: int = 100
    submit_concurrency: int = 20
    submit_lease: timedelta = timedelta(minutes=2)
    watch_interval: timedelta = timedelta(seconds=5)
    watch_timeout: timedelta = timedelta(hours=24)
    resolve_interval: timedelta = timedelta(seconds=5)
    resolve_grace: timedelta = timedelta(seconds=60)
    resolve_unclear: Literal["hold", "adopt", "retry"] = "hold"
    retention: timedelta = timedelta(days=30)
    batch_budget: timedelta = timedelta(seconds=5)


@dataclass(slots=True)
class Context:
    """The world of a use case.

    Attributes:
        waited: how long this process tries to reach the ledger for the first time; zero once it has.
        stopping: whether the process is asked to end: finish what is under way, start nothing.
    """

    ledger: Ledger
    api: Api
    policies: PolicyBook
    options: Options
    random: Random
    waited: Callable[[], timedelta] = lambda: timedelta(0)
    stopping: Callable[[], bool] = lambda: False
    log: Any = field(default_factory=lambda: structlog.get_logger("worker"))

    def now(self) -> datetime:
        """Return the time, by the Redis server's clock."""
        return self.ledger.clock.now()

    def policy_for(self, lineage: Lineage) -> tuple[Policy, str]:
        """Return the policy in force for a lineage and the name of its entry."""
        return self.policies.for_workflow(lineage.workflow_uuid, lineage.workflow_name)

    async def commit(
        self, change: Change, *, next_at: datetime | None = None, while_gate_open: bool = False
    ) -> Outcome:
        """Store a change and log the events it tells; the loser of a race drops its change and says so."""
        outcome = await self.ledger.commit(change, next_at=next_at, while_gate_open=while_gate_open)
        if outcome is Outcome.COMMITTED:
            for event in change.events:
                self._tell(change.after, event)
        else:
            wanted = change.after.state.value
            self.log.debug("commit_dropped", root=change.after.root, wanted=wanted, outcome=outcome.value)
        return outcome

    async def heed(self, error: KineticError) -> None:
        """Close the gate for everyone when an error says that nobody should call now."""
        if isinstance(error, Unauthorized):
            await self.suspend(error.reason, error.detail, error.http_status)
        elif isinstance(error, Throttled):
            await self.pause(error.reason, error.pause, error.http_status)

    async def suspend(self, reason: str, detail: str, http_status: int | None) -> None:
        """Stop all calls of all workers until a GET succeeds."""
        if await self.ledger.gate.suspend(reason, detail, FIRST_PROBE_IN):
            self.log.error(
                "worker_suspended",
                reason=reason,
                detail=detail,
                http_status=http_status,
                next="no retry is sent and no attempt is spent; the API is probed until it accepts the key",
                cure="check KINETIC_API_KEY and its permissions",
            )

    async def pause(self, reason: str, duration: timedelta, http_status: int | None) -> None:
        """Rest all calls of all workers for a while."""
        if await self.ledger.gate.pause(reason, duration):
            self.log.warning(
                "calls_paused", reason=reason, http_status=http_status, duration=duration.total_seconds()
            )

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
