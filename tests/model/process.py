"""One worker process of the model, and the deployment that all of them share.

Everything in it is the product's own, from the use cases down to where a round trip would leave the process;
there its calls stand still. Owns what differs from production: the settings, chosen so that leases and
graces can run out within a few steps.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

from tests.model.calls import Call, Point, Server, connection_to
from tests.model.clockwork import Loop
from tests.model.kinetic_world import Habits, KineticWorld
from tests.model.wire import CONNECT_TIMEOUT, GRACE, TIMEOUT, HttpCall, Wire, client_on
from tests.support.examples import NO_LIMITS, alone
from worker.domain.breaker import Rule
from worker.domain.budget import WorkflowLimits
from worker.domain.policy import Backoff, Jitter, Policy, PolicyBook
from worker.engine import discover, prune, resolve, submit, survey, watch
from worker.engine.context import Context, Options
from worker.kinetic import KineticError
from worker.ledger import Ledger, LedgerError

NAMESPACE = "model"
JOBS: dict[str, Callable[[Context], Any]] = {
    "discover": discover,
    "submit": submit,
    "survey": survey,
    "watch": watch,
    "resolve": resolve,
    "prune": prune,
}
POLICY = alone(
    Policy(
        max_attempts=2,
        backoff=Backoff.FIXED,
        base_delay=timedelta(seconds=5),
        jitter=Jitter.NONE,
        deadline=timedelta(hours=12),
    )
)
GUARDED = replace(
    POLICY,
    prompt=True,
    strikes=3,
    breaker=Rule(
        failures=2,
        memory=timedelta(minutes=2),
        first_pause=timedelta(seconds=5),
        longest_pause=timedelta(seconds=40),
    ),
    limits=WorkflowLimits(share=0, floor=0, in_flight=3),
)
"""Failures of one workflow hold each other up: lineages wait, are released, and wait again."""
OPTIONS = Options(
    request_bound=CONNECT_TIMEOUT + TIMEOUT,
    discovery_interval=timedelta(seconds=4),
    discovery_sweep=timedelta(seconds=60),
    many_looks=2,
    submit_batch=3,
    submit_concurrency=3,
    submit_lease=timedelta(seconds=30),
    resolve_interval=timedelta(seconds=4),
    resolve_grace=GRACE,
    limits=NO_LIMITS,
    release_interval=timedelta(seconds=1),
    look_again=timedelta(seconds=40),
)


@dataclass(frozen=True)
class Deployment:
    """What differs from one example to the next."""

    workers: int = 2
    lists: bool = True
    unclear: Literal["hold", "adopt", "retry"] = "hold"
    policy: Policy = POLICY
    habits: Habits = field(default_factory=Habits)


class Log:
    """Takes what the engine says and only counts it."""

    def __init__(self, tally: Counter[str]) -> None:
        self._tally = tally

    def debug(self, event: str, **facts: Any) -> None:
        self._tally[f"{event} {facts['outcome']}" if event == "commit_dropped" else event] += 1

    info = warning = error = debug


@dataclass
class Surroundings:
    """What the workers of one example share.

    Attributes:
        tally: what happened, for the report.
        complaints: what no worker may do; empty as long as the laws hold.
        retry_is_sent: told of every retry call just before it leaves.
    """

    server: Server
    world: KineticWorld
    loop: Loop
    deployment: Deployment
    tally: Counter[str]
    complaints: list[str]
    retry_is_sent: Callable[[str], None]


class Worker:
    """One worker process: at most one task at a time, any number of calls at once.

    Attributes:
        points: its calls that stand still.
        job: what its task is, or was.
    """

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.job = ""
        self.points: list[Point] = []
        self.task: asyncio.Task[None] | None = None
        self._around = around
        self._introduced = False
        self._dead = False
        clock, deployment = around.world.clock, around.deployment
        ledger = Ledger(connection_to(around.server, self._perform), NAMESPACE, events_maxlen=10_000)
        ledger.clock._uptime_s = clock.uptime_s
        ledger.clock.hear(ledger.clock.mark(), clock.now_us() // 1000)  # instead of this machine's clock
        api = client_on(Wire(around.world, self._perform), ledger.clock.now)
        options = replace(OPTIONS, lists=deployment.lists, resolve_unclear=deployment.unclear)
        policies = PolicyBook(deployment.policy)
        self.ctx = Context(ledger, api, policies, options, random=lambda: 0.0, log=Log(around.tally))

    @property
    def idle(self) -> bool:
        return self.task is None or self.task.done()

    def start(self, job: str) -> None:
        assert self.idle
        self.job = job
        self.task = self._around.loop.create_task(self._run(JOBS[job]))
        self._around.loop.settle()

    def die(self) -> list[Point]:
        """Stop for good, where it stands; return the calls that were under way."""
        self._dead = True
        points, self.points = self.points, []
        return points

    async def _run(self, use_case: Callable[[Context], Any]) -> None:
        """Do what `worker.runtime` does around a task."""
        try:
            if not self._introduced:
                await self.ctx.ledger.begin(self.ctx.waited())
                self._introduced = True
            await use_case(self.ctx)
            await self.ctx.calls.flush()
        except LedgerError as error:
            self._around.tally[f"task ended by {type(error).__name__}"] += 1
        except KineticError as error:
            self._around.complaints.append(f"{self.job} let an error of the API through: {error}")
        except Exception as error:  # noqa: BLE001  # a use case must not fail in any other way
            self._around.complaints.append(f"{self.job} failed with {error!r}")

    def _perform(self, call: Call) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._around.loop.create_future()
        if self._dead:  # a timer of its own woke it
            return future
        if isinstance(call, HttpCall) and call.is_retry:
            self._around.retry_is_sent(call.uuid)
        self.points.append(Point(call, future))
        return future
