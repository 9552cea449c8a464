"""Keeps the time: faults by the schedule, how long work takes to go on after each step, and the settling.

Everything happens in one thread, so the order of harm is the schedule's. What comes out is an `Outcome`:
figures and broken laws.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.chaos import hygiene
from tests.chaos.faults import FAULTS, KINDS, Case
from tests.chaos.judge import Law, Violation, is_settled, judge
from tests.chaos.schedule import Planned, Step, steps
from tests.chaos.tally import ambiguous_calls
from tests.chaos.world import KEYS, MAX_ATTEMPTS, World
from worker.domain.lineage import State

BACK_WITHIN_S = 30.0
"""What the worker promises after any single fault."""
WAIT_FOR_S = 60.0
SETTLE_WITHIN_S = 75.0
ORPHANS_END_WITHIN_S = 15.0
FEWEST_AMBIGUOUS = 10
JOBS = ("discover", "submit", "watch", "resolve")
MOVING = (State.SCHEDULED, State.SUBMITTING, State.RUNNING, State.UNRESOLVED)


@dataclass(slots=True)
class Recovery:
    """How long after a step work went on."""

    step: str
    seconds: float


@dataclass(slots=True)
class Outcome:
    """What a run was and what came of it."""

    seed: int
    record: dict[str, Any] = field(default_factory=dict)
    lineages: list[dict[str, Any]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    did: Counter[str] = field(default_factory=Counter)
    recoveries: list[Recovery] = field(default_factory=list)
    settled_in_s: float = 0.0
    wall_s: float = 0.0


class Conductor:
    """Runs one chaos run against a world.

    Args:
        world: what is running.
        seed: of the schedule.
        faults_for_s: for how long new steps begin; the last one is carried through.
        say: takes a line for people as things happen.
    """

    def __init__(self, world: World, seed: int, faults_for_s: float, say: Callable[[str], None]) -> None:
        self._world = world
        self._faults_for_s = faults_for_s
        self._say = say
        self._began_s = time.monotonic()
        self._outcome = Outcome(seed)

    def run(self) -> Outcome:
        """Break things until the time is over, let all settle, and judge."""
        world, outcome = self._world, self._outcome
        world.begin_load()
        for step in steps(outcome.seed, KINDS):
            if self._elapsed_s() > self._faults_for_s:
                break
            time.sleep(step.calm_s)
            self._perform(step)
            self._wait_for_work(step)
        world.end_load()
        self._say("no more faults and no more load; waiting for verdicts")
        self._settle()
        self._end_processes()
        outcome.violations += [Violation(Law.PROMISE, "", words) for words in world.broken]
        outcome.violations += hygiene.of_logs(world.processes.all)
        outcome.violations += hygiene.of_files(world.server.data_dir)
        outcome.reasons, outcome.ends = ambiguous_calls(world.events())
        if outcome.reasons.total() < FEWEST_AMBIGUOUS:
            words = f"{outcome.reasons.total()} ambiguous calls; {FEWEST_AMBIGUOUS} are the least that counts"
            outcome.violations.append(Violation(Law.QUIET, "", words))
        outcome.did = world.did
        outcome.did["gate closed: the API is down"] = world.said("api_down")
        outcome.did["gate closed: the key is refused"] = world.said("worker_suspended")
        outcome.wall_s = self._elapsed_s()
        return outcome

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _perform(self, step: Step) -> None:
        """Begin and end a step's faults in order of time; whatever happens, what has begun is ended."""
        started_s = time.monotonic()
        moments = [(each.begins_s, each) for each in step.faults] + [
            (each.ends_s, each) for each in step.faults
        ]
        under_way: dict[Planned, Iterator[None]] = {}
        try:
            for at_s, planned in sorted(moments, key=lambda moment: moment[0]):
                time.sleep(max(0.0, started_s + at_s - time.monotonic()))
                if planned not in under_way:
                    self._say(f"{planned.kind.name} for {planned.ends_s - planned.begins_s:.1f} s")
                    self._outcome.faults[planned.kind.name] += 1
                    case = Case(random.Random(planned.dice), planned.ends_s - planned.begins_s)
                    under_way[planned] = FAULTS[planned.kind.name](self._world, case)
                    next(under_way[planned])
                else:
                    next(under_way.pop(planned), None)
        finally:
            for begun in under_way.values():
                next(begun, None)

    def _wait_for_work(self, step: Step) -> None:
        """Wait until every job has run since the step, and a retry was accepted or none is left."""
        ended_s = time.monotonic()
        name = " + ".join(planned.kind.name for planned in step.faults)
        before = self._accepted() or 0
        ended_ms = time.time() * 1000
        while not self._works(before, ended_ms):
            if time.monotonic() - ended_s > WAIT_FOR_S:
                break
            time.sleep(0.1)
        recovery = Recovery(name, time.monotonic() - ended_s)
        self._outcome.recoveries.append(recovery)
        self._say(f"work goes on {recovery.seconds:.1f} s after {name}")
        if recovery.seconds > BACK_WITHIN_S:
            words = f"{recovery.seconds:.0f} s after {name} at {self._elapsed_s():.0f} s"
            self._outcome.violations.append(Violation(Law.SLOW, "", words))

    def _works(self, before: int, since_ms: float) -> bool:
        try:
            ticks: Any = self._world.client.hgetall(KEYS.ticks)
            waiting = self._world.count(State.SCHEDULED, State.SUBMITTING, State.UNRESOLVED)
        except redis.RedisError:
            return False
        ran = (json.loads(ticks[job])["finished_at"] > since_ms for job in JOBS if job in ticks)
        return list(ran) == [True] * len(JOBS) and ((self._accepted() or 0) > before or not waiting)

    def _accepted(self) -> int | None:
        """Return how many retries were accepted so far; None when the server does not answer."""
        try:
            count: Any = self._world.client.hget(KEYS.counters, "retry_accepted")
        except redis.RedisError:
            return None
        return int(count or 0)

    def _settle(self) -> None:
        """Wait until every failure has its verdict or is held, and judge; when time is up, judge as it is."""
        began_s = time.monotonic()
        while not self._is_settled() and time.monotonic() - began_s < SETTLE_WITHIN_S:
            time.sleep(0.5)
        self._outcome.violations += self._judge()
        self._outcome.settled_in_s = time.monotonic() - began_s

    def _is_settled(self) -> bool:
        if self._world.count(*MOVING):
            return False
        found = self._judge()
        return is_settled(found) and not self._outcome.record["chain_ends"]["live"]

    def _judge(self) -> list[Violation]:
        record = self._outcome.record = self._world.simulator.record(full=True)
        lineages = self._outcome.lineages = self._world.lineages()
        return judge(
            record["all"],
            lineages,
            max_attempts=MAX_ATTEMPTS,
            retries_of_unfailed=record["retries_of_unfailed"],
        )

    def _end_processes(self) -> None:
        """End everything warmly; whatever outlived its parent long ago is a broken promise."""
        world = self._world
        deadline_s = time.monotonic() + ORPHANS_END_WITHIN_S
        while (orphans := world.orphans()) and time.monotonic() < deadline_s:
            time.sleep(0.2)
        if orphans:
            world.broken.append(f"{len(orphans)} pool processes outlive the parent that was killed")
        for daemon in [*world.workers, *world.beats]:
            code = daemon.stop()
            if code:
                world.broken.append(f"{daemon.output.name} ended with code {code} when it was told to end")
