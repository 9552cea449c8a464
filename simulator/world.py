"""The simulated system: workflows, executions, and what time does to them.

Pure: no HTTP, no threads, no clock of its own. A run's course is planned when it is created; its status
is read off the injected clock whenever someone looks. What has come due since the last look (arrivals,
ended runs) is settled first, in order of time, so that the lists by status are always at hand, sorted:
a look costs O(log n) per execution that ended since, and nothing for those that did not.

Executions are never forgotten: a world that runs for days grows for days.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from simulator.behaviours import Run
from simulator.executions import FINAL, Execution, Key, Status, Workflow

Clock = Callable[[], datetime]
"""Returns the present as aware UTC."""


class UnknownError(LookupError):
    """No such execution or workflow; the message says which."""


class EndedError(Exception):
    """The execution has ended already and cannot end again."""


@dataclass(slots=True)
class _Stream:
    """Executions of a workflow that arrive by themselves, with dice of their own: the same for every run."""

    workflow: Workflow
    per_second: float
    rng: random.Random

    def gap(self) -> timedelta:
        return timedelta(seconds=self.rng.expovariate(self.per_second))


class World:
    """Everything the simulated API knows. Not thread-safe; every public method settles what is due first.

    Args:
        clock: the present, aware UTC. A clock that steps back is held where it was.
        rng: all chance comes from here; the same seed and calls give the same world.
    """

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._now = clock()
        self._workflows: dict[str, Workflow] = {}
        self._by_uuid: dict[str, Execution] = {}
        self._by_seq: list[Execution] = []
        self._all: list[Key] = []
        self._ended: dict[Status, list[Key]] = {status: [] for status in FINAL}
        self._live: dict[str, Execution] = {}
        self._ends: list[tuple[datetime, int, int]] = []
        self._streams: dict[str, _Stream] = {}
        self._arrivals: list[tuple[datetime, int, _Stream]] = []
        self._order = itertools.count()
        self.retries_of_unfailed = 0
        """Retries of executions that had not failed: a caller's mistake that the API does not stop."""

    # Looking

    def now(self) -> datetime:
        """Settle all that has come due and return the present."""
        self._now = max(self._now, self._clock())
        self._settle()
        return self._now

    def workflow(self, name_or_uuid: str) -> Workflow:
        """Return a workflow by uuid, else by name; `UnknownError` if there is none."""
        if name_or_uuid in self._workflows:
            return self._workflows[name_or_uuid]
        for workflow in self._workflows.values():
            if workflow.name == name_or_uuid:
                return workflow
        raise UnknownError(f"no workflow {name_or_uuid!r}")

    def execution(self, execution_uuid: str) -> Execution:
        """Return an execution; `UnknownError` if there is none."""
        self.now()
        try:
            return self._by_uuid[execution_uuid]
        except KeyError:
            raise UnknownError("no such execution") from None

    def executions(self) -> Iterator[Execution]:
        """Yield every execution in order of creation (backdated ones where they were made)."""
        self.now()
        return iter(self._by_seq)

    def keys(self, status: Status | None) -> list[Key]:
        """Return the keys of the executions in a status (None: all), oldest first. Not to be modified."""
        now = self.now()
        if status is None:
            return self._all
        if status in FINAL:
            return self._ended[status]
        return sorted(each.key for each in self._live.values() if each.status(now) is status)

    def at(self, key: Key) -> Execution:
        """Return the execution a key stands for."""
        return self._by_seq[key[1]]

    # Acting

    def add_workflow(self, workflow: Workflow) -> Workflow:
        """Add a workflow, or give a known one (same uuid) new rules for its runs from now on."""
        known = self._workflows.setdefault(workflow.uuid, workflow)
        known.name, known.behaviour = workflow.name, workflow.behaviour
        known.timing, known.payloads = workflow.timing, workflow.payloads
        known.failure_log = workflow.failure_log
        return known

    def new_uuid(self) -> str:
        """Return a uuid drawn from the world's own dice."""
        return _uuid(self._rng)

    def let_arrive(self, workflow: Workflow, per_second: float) -> None:
        """Let executions arrive from now on, at random, so many per second on average; 0 ends it."""
        stream = _Stream(workflow, per_second, random.Random(self._rng.getrandbits(64)))
        now = self.now()
        self._streams[workflow.uuid] = stream
        if per_second > 0:
            heapq.heappush(self._arrivals, (now + stream.gap(), next(self._order), stream))

    def start(
        self,
        workflow: Workflow,
        payload: Any = None,
        *,
        own_payload: bool = False,
        age: timedelta = timedelta(0),
    ) -> Execution:
        """Create an execution that runs by its workflow's rules.

        Args:
            workflow: whose execution.
            payload: the input, used when `own_payload` is true; else the workflow's style makes one.
            own_payload: whether the caller brings the payload (None is a payload, too).
            age: how long ago it was created.
        """
        made = payload if own_payload else workflow.payloads.payload(self._rng)
        created = self._create(workflow, made, self.now() - age, self._rng)
        self._settle()
        return created

    def put(self, workflow: Workflow, outcome: Status, *, created: timedelta, ended: timedelta) -> Execution:
        """Create an execution that has ended already, whatever its workflow's rules say.

        Args:
            workflow: whose execution.
            outcome: `completed` or `failed`.
            created: how long ago it was created.
            ended: how long ago it ended; not before it was created.
        """
        if outcome not in FINAL or ended > created:
            raise ValueError("an ended execution is completed or failed, and it ends after it was created")
        now = self.now()
        made = self._create(workflow, workflow.payloads.payload(self._rng), now - created, self._rng)
        self._end(made, outcome, now - ended)
        made.queued_at = min(made.queued_at, made.ends_at)
        made.started_at = min(made.started_at, made.ends_at)
        return made

    def retry(self, execution_uuid: str, *, in_place: bool = False) -> Execution:
        """Do what a retry does: clone the execution's details, stop it, queue the clone.

        A retry of an execution that did not fail clones all the same, as the API documents; only the
        record tells. With `in_place` no clone is made: the execution itself runs again.

        Returns:
            The clone, or the execution itself. Raises `UnknownError` when there is none.
        """
        old = self.execution(execution_uuid)
        now = self._now
        if old.status(now) is not Status.FAILED:
            self.retries_of_unfailed += 1
        if not old.settled:
            self._end(old, Status.FAILED, now)
        if in_place:
            self._run_again(old, now)
            return old
        clone = self._create(old.workflow, old.payload, now, self._rng, parent=old)
        old.clones.append(clone.uuid)
        self._settle()
        return clone

    def complete(self, execution_uuid: str, outcome: Status) -> Execution:
        """End a live execution by hand; `EndedError` if it has ended, `UnknownError` if there is none."""
        execution = self.execution(execution_uuid)
        if execution.settled:
            raise EndedError(f"the execution is {execution.settled} already")
        self._end(execution, outcome, self._now)
        return execution

    # Inside

    def _create(
        self,
        workflow: Workflow,
        payload: Any,
        at: datetime,
        rng: random.Random,
        parent: Execution | None = None,
    ) -> Execution:
        new_uuid = _uuid(rng)
        execution = Execution(
            seq=len(self._by_seq),
            uuid=new_uuid,
            workflow=workflow,
            payload=payload,
            created_at=at,
            root=parent.root if parent else new_uuid,
            parent=parent.uuid if parent else None,
            retry=parent.retry + 1 if parent else 0,
            queued_at=at,
            started_at=at,
            ends_at=at,
            fails=False,
        )
        self._by_seq.append(execution)
        self._by_uuid[new_uuid] = execution
        bisect.insort(self._all, execution.key)
        self._plan(execution, at, rng)
        return execution

    def _plan(self, execution: Execution, at: datetime, rng: random.Random) -> None:
        workflow, timing = execution.workflow, execution.workflow.timing
        execution.queued_at = at + timing.pending
        execution.started_at = execution.queued_at + timing.queued
        execution.ends_at = execution.started_at + timing.run_time(rng)
        execution.fails = workflow.behaviour.fails(Run(execution.retry, execution.ends_at), rng)
        self._live[execution.uuid] = execution
        heapq.heappush(self._ends, (execution.ends_at, execution.seq, execution.run))

    def _run_again(self, execution: Execution, now: datetime) -> None:
        if execution.settled:
            keys = self._ended[execution.settled]
            del keys[bisect.bisect_left(keys, execution.key)]
        execution.settled = None
        execution.run += 1
        execution.retry += 1
        self._plan(execution, now, self._rng)
        self._settle()

    def _end(self, execution: Execution, outcome: Status, at: datetime) -> None:
        execution.ends_at, execution.fails, execution.settled = at, outcome is Status.FAILED, outcome
        self._live.pop(execution.uuid, None)
        bisect.insort(self._ended[outcome], execution.key)

    def _settle(self) -> None:
        while self._arrivals and self._arrivals[0][0] <= self._now:
            at, order, stream = self._arrivals[0]
            if self._streams[stream.workflow.uuid] is not stream:  # another rate holds since
                heapq.heappop(self._arrivals)
                continue
            self._create(stream.workflow, stream.workflow.payloads.payload(stream.rng), at, stream.rng)
            heapq.heapreplace(self._arrivals, (at + stream.gap(), order, stream))
        while self._ends and self._ends[0][0] <= self._now:
            ends_at, seq, run = heapq.heappop(self._ends)
            execution = self._by_seq[seq]
            if execution.run == run and not execution.settled:  # else: ended by hand, or running again
                self._end(execution, Status.FAILED if execution.fails else Status.COMPLETED, ends_at)


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
