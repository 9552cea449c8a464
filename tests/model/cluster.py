"""Several workers of one ledger and one API, moved on one step at a time.

All workers share one event loop, which costs nothing: between two calls a process meets nobody, and every
call stands still until the test moves it. The cluster owns what can happen to workers; what may not is in
`laws`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from types import ModuleType
from unittest.mock import patch

from tests.model.calls import Call, Point, RedisCall, Server
from tests.model.clockwork import Clock, Loop
from tests.model.kinetic_world import KineticWorld
from tests.model.people import People
from tests.model.process import NAMESPACE, OPTIONS, Deployment, Surroundings, Worker
from tests.model.records import Records
from tests.model.wire import HttpCall, exchange
from worker.domain.lineage import State
from worker.kinetic import client


class Cluster:
    """The workers, the API and the ledger of one example.

    Attributes:
        steps: how often anything was moved on, apart from the healing at the end.
        tally: what happened, for the report.
        complaints: what no worker may do; empty as long as the laws hold.
        story: every step, for people.
        network: calls whose caller is gone or has given up, and that may still arrive.
    """

    def __init__(self, server: Server, deployment: Deployment, tally: Counter[str] | None = None) -> None:
        self.server = server
        self.deployment = deployment
        self.tally = Counter() if tally is None else tally
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.world = KineticWorld(self.clock, deployment.habits, guesses=deployment.unclear != "hold")
        self.complaints = self.world.complaints
        self.ledger = Records(server, NAMESPACE, self.clock)
        self.people = People(server, self.ledger, self.clock)
        self.network: list[Call] = []
        self.steps = 0
        self.story: list[str] = []
        self._numbers = itertools.count(1)
        self._patches = ExitStack()
        self._patches.enter_context(patch.object(client, "exchange", exchange))
        for module in _modules_that_measure():
            self._patches.enter_context(patch.object(module, "time", self.clock))
        self._abandoned: list[Worker] = []
        self._around = Surroundings(
            server, self.world, self.loop, deployment, self.tally, self.complaints, self._retry_is_sent
        )
        server.begin_anew(self.clock.now_us())
        self.workers = [self._new_worker() for _ in range(deployment.workers)]
        self._first_start()

    def _new_worker(self) -> Worker:
        return Worker(f"w{next(self._numbers)}", self._around)

    def _first_start(self) -> None:
        """Start the worker for the first time, an hour after a failure that is none of its business."""
        self.started_at = self.clock.now()
        self.old_failure = self.world.add("failed", "v1", {"old": True}, age=timedelta(hours=1))
        self.run_to_end(self.workers[0], "prune")

    # What can happen to workers

    def go_on(self, worker: Worker, point: Point) -> None:
        """Move one call on by one moment: let it arrive, or let its answer come through."""
        self._step("arrived" if not point.arrived else "answered", _whose(worker, point))
        if point.arrived and isinstance(point.call, HttpCall):
            self.advance_quietly(self.world.habits.answer_takes_s)
        point.go_on()
        self._wake(worker, point)
        self.judge()

    @staticmethod
    def can_be_halved(point: Point) -> bool:
        return isinstance(point.call, RedisCall) and not point.arrived and point.call.can_be_halved

    def arrive_half(self, worker: Worker, point: Point) -> None:
        """Let the first half of a round trip to Redis arrive; others come in between."""
        assert isinstance(point.call, RedisCall)
        self._step("round trip cut in two", _whose(worker, point))
        point.call.arrive_half()

    @staticmethod
    def can_be_sent_again(point: Point) -> bool:
        return isinstance(point.call, RedisCall) and point.arrived

    def send_again(self, worker: Worker, point: Point) -> None:
        """Lose an answer of Redis that the client then asks for again, as redis-py does by itself."""
        assert isinstance(point.call, RedisCall)
        self._step("redis call sent twice", _whose(worker, point))
        point.call.arrive_again()

    def lose(self, worker: Worker, point: Point, *, late: bool = False, loss: str = "read_timeout") -> None:
        """Let the caller give up. A request that had not arrived may still do so `late`.

        `loss` is one of `wire.LOSSES`.
        """
        kind = "redis"
        if isinstance(point.call, HttpCall):
            kind, point.call.loss = "api", loss
            self.tally[f"{'retry call' if point.call.is_retry else 'get'} unclear: {loss}"] += 1
        self._step(f"{kind} {'answer' if point.arrived else 'request'} lost", _whose(worker, point))
        if late and not point.arrived:
            self.network.append(point.call)
            if isinstance(point.call, HttpCall):
                point.call.is_given_up()
        point.lose()
        self._wake(worker, point)

    def turn_away(self, worker: Worker, point: Point, how: str) -> None:
        """End a retry call without effect."""
        assert isinstance(point.call, HttpCall)
        self._step(f"retry call: {how}", _whose(worker, point))
        point.call.turn_away(how)
        point.arrived = True

    def crash(self, worker: Worker, *, late: bool = False) -> Worker:
        """Kill a worker where it stands and start another. What it had sent may still arrive `late`."""
        self._step("crash", f"{worker.name} {worker.job}")
        under_way = [point.call for point in worker.die() if not point.arrived]
        self.network += under_way if late else []
        self._abandoned.append(worker)
        place = self.workers.index(worker)
        self.workers[place] = self._new_worker()
        return self.workers[place]

    def arrive_late(self, call: Call) -> None:
        """Let a call arrive whose caller is gone."""
        self.network.remove(call)
        self._step("arrived after its caller was gone", call.what)
        call.arrive()
        self.judge()

    def start(self, worker: Worker, job: str) -> None:
        self._step(f"task {job}", worker.name)
        worker.start(job)
        self.judge()

    def advance(self, seconds: float) -> None:
        """Let time pass. Workers with calls under way stand still meanwhile, as after a SIGSTOP."""
        self._step("time passed", f"{seconds} s")
        self.advance_quietly(seconds)
        self.judge()

    def environment(self, what: str, which: str = "") -> None:
        """Count a step of the world around the workers."""
        self._step(what, which)

    def advance_quietly(self, seconds: float) -> None:
        """Let time pass without counting a step."""
        self.clock.advance(seconds)
        self.server.set_time(self.clock.now_us())
        self.loop.settle()

    def _step(self, what: str, of: str = "") -> None:
        self.steps += 1
        self.tally[what] += 1
        self.story.append(f"{self.clock.now():%H:%M:%S.%f}"[:-5] + f"  {what}  {of}".rstrip())

    def judge(self) -> None:
        """Stop the example at the first thing that no worker may do."""
        assert not self.complaints, "\n".join(self.complaints)

    def _wake(self, worker: Worker, point: Point) -> None:
        if point.future.done():
            worker.points.remove(point)
            self.loop.settle()

    # What is asked of them

    def run_to_end(self, worker: Worker, job: str) -> None:
        """Run a task with nothing in its way, time passing only when it waits for that."""
        self.finish(worker)
        worker.start(job)
        self.finish(worker)

    def finish(self, worker: Worker) -> None:
        """Let a worker finish what it is doing."""
        for _ in range(3000):
            if worker.points:
                point = worker.points[0]
                if point.arrived and isinstance(point.call, HttpCall):
                    self.advance_quietly(self.world.habits.answer_takes_s)
                point.go_on()
                self._wake(worker, point)
            elif worker.idle:
                return
            else:
                self.advance_quietly(0.5)
        raise AssertionError(f"{worker.job} of {worker.name} does not end")

    def _retry_is_sent(self, uuid: str) -> None:
        """Look at the ledger at the moment at which a retry call leaves (laws 3 and 8, and the lease)."""
        lineage = self.ledger.lineage_of(uuid)
        if objection := self.people.objection(lineage):
            self.complaints.append(objection)
        if uuid == self.old_failure.uuid:
            self.complaints.append("a failure from before the first start was retried")
        if lineage is None or lineage.state is not State.SUBMITTING or not lineage.intent:
            self.complaints.append(f"a retry call for {uuid} left without an intent on record")
        elif lineage.intent.lease_until - self.clock.now() < OPTIONS.request_bound:
            self.complaints.append(f"a retry call for {uuid} left when its lease was too short for it")
        elif lineage.intent.of != uuid:
            self.complaints.append(f"the intent on record is for {lineage.intent.of}, the call for {uuid}")

    def close(self) -> None:
        """End every task without letting its clean-up meet anybody."""
        workers = [*self.workers, *self._abandoned]
        for task in [worker.task for worker in workers if worker.task]:
            task.cancel()
        for _ in range(5):
            pending = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            for task in pending:
                task.cancel()
            self.loop.settle()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self._patches.close()


def _whose(worker: Worker, point: Point) -> str:
    return f"{worker.name} {worker.job}: {point.call.what}"


def _modules_that_measure() -> list[ModuleType]:
    """Return the modules of the engine that count budgets by `time.monotonic`."""
    loaded = [module for name, module in sys.modules.items() if name.startswith("worker.engine.")]
    return [module for module in loaded if getattr(module, "time", None) is time]
