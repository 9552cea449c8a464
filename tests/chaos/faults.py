"""The faults: each does its harm, waits at its one `yield`, and ends it.

A fault is a generator function that is registered with what the schedule has to know of it. What is left
to chance inside it comes from its own case.dice. None of them asks how the worker is built: they do what
machines, networks and people do.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from tests.chaos.schedule import Family, Kind
from tests.chaos.warm_stop import left_submitting
from tests.chaos.world import GRACE_S, LEASE_S, NAMESPACE, TIMEOUT_S, World
from tests.support.daemons import END_WITHIN_S


@dataclass(frozen=True, slots=True)
class Case:
    """What the schedule settled for one fault: its dice, and how long it lasts."""

    dice: random.Random
    lasts_s: float


Fault = Callable[[World, Case], Iterator[None]]

FAULTS: dict[str, Fault] = {}
KINDS: list[Kind] = []
LONGEST_FREEZE_S = TIMEOUT_S + GRACE_S + 5.0
"""Longer than the caller's timeout and the grace together: a frozen API obeys what lies in its buffers when
it wakes, and the grace has to begin anew then."""


def fault(
    family: Family, shortest_s: float, longest_s: float, *, cards: int = 1, alone: bool = False
) -> Callable[[Fault], Fault]:
    """Register a fault under its function's name."""

    def register(function: Fault) -> Fault:
        name = function.__name__
        FAULTS[name] = function
        KINDS.append(Kind(name, family, cards, shortest_s, longest_s, alone))
        return function

    return register


# Workers


@fault(Family.WORKERS, 0.0, 0.1)
def kill_child(world: World, case: Case) -> Iterator[None]:
    """SIGKILL one pool process, as the OOM killer does."""
    worker = case.dice.choice(world.workers)
    children = world.children(worker)
    if children and world.works(worker):
        world.harmed_at[worker.output.name] = datetime.now(UTC)
        os.kill(case.dice.choice(children), signal.SIGKILL)
        world.did["children killed"] += 1
    yield


@fault(Family.WORKERS, 0.2, 2.0)
def kill_parent(world: World, case: Case) -> Iterator[None]:
    """SIGKILL the main process only: its pool processes are orphaned in the middle of their work."""
    index = case.dice.randrange(len(world.workers))
    world.workers[index].process.kill()
    world.workers[index].process.wait()
    world.did["parents killed"] += 1
    yield
    world.restart(world.workers, index)


@fault(Family.WORKERS, 0.2, 2.0, cards=2)
def kill_group(world: World, case: Case) -> Iterator[None]:
    """SIGKILL everything of a worker, as a container's end does."""
    index = case.dice.randrange(len(world.workers))
    world.workers[index].signal_group(signal.SIGKILL)
    world.workers[index].process.wait()
    world.did["groups killed"] += 1
    yield
    world.restart(world.workers, index)


@fault(Family.WORKERS, 0.2, 1.0, alone=True)
def warm_stop(world: World, case: Case) -> Iterator[None]:
    """SIGTERM under load: it ends with code 0, and no call of its own is left without an outcome."""
    index = case.dice.randrange(len(world.workers))
    worker = world.workers[index]
    began_s = time.monotonic()
    code = worker.stop()
    took_s = time.monotonic() - began_s
    world.did["warm stops"] += 1
    if code:
        world.broken.append(f"{worker.output.name}: SIGTERM ended it with code {code}")
    if took_s > END_WITHIN_S / 2:
        world.broken.append(f"{worker.output.name}: SIGTERM took {took_s:.0f} s")
    for root in left_submitting(world, worker):
        world.broken.append(f"{worker.output.name}: SIGTERM left {root} submitting")
    yield
    world.restart(world.workers, index)


@fault(Family.WORKERS, LEASE_S + 1, LEASE_S + 3, cards=2)
def stall_worker(world: World, case: Case) -> Iterator[None]:
    """SIGSTOP everything of a worker for longer than a lease, then SIGCONT: a paused machine."""
    worker = case.dice.choice(world.workers)
    worker.signal_group(signal.SIGSTOP)
    world.did["stalls (SIGSTOP)"] += 1
    yield
    worker.signal_group(signal.SIGCONT)


# Beats


@fault(Family.BEATS, 0.2, 2.0)
def kill_beat(world: World, case: Case) -> Iterator[None]:
    """SIGKILL one of two beats."""
    index = case.dice.randrange(len(world.beats))
    world.beats[index].signal_group(signal.SIGKILL)
    world.beats[index].process.wait()
    world.did["beats killed"] += 1
    yield
    world.restart(world.beats, index)


@fault(Family.BEATS, 2.0, 5.0)
def no_beat(world: World, case: Case) -> Iterator[None]:
    """No beat at all for a while: nobody is woken."""
    for beat in world.beats:
        beat.signal_group(signal.SIGKILL)
        beat.process.wait()
        world.did["beats killed"] += 1
    yield
    for index in range(len(world.beats)):
        world.restart(world.beats, index)


# Redis


@fault(Family.REDIS, 0.2, 3.0, cards=2)
def kill_redis(world: World, case: Case) -> Iterator[None]:
    """SIGKILL, then a new server on the same port from the append-only file."""
    world.server.terminate()
    world.did["Redis killed"] += 1
    yield
    world.server.start()


@fault(Family.REDIS, 2.0, 7.0)
def stall_redis(world: World, case: Case) -> Iterator[None]:
    """SIGSTOP: connections stay open and nothing answers."""
    information: Any = world.client.info("server")
    os.kill(information["process_id"], signal.SIGSTOP)
    world.did["stalls (SIGSTOP)"] += 1
    yield
    os.kill(information["process_id"], signal.SIGCONT)


@fault(Family.REDIS, 0.0, 0.1)
def flush_scripts(world: World, case: Case) -> Iterator[None]:
    """SCRIPT FLUSH: every script is unknown to the server."""
    world.client.script_flush()
    world.did["broker and script tricks"] += 1
    yield


@fault(Family.REDIS, 1.0, 3.0)
def delete_queue(world: World, case: Case) -> Iterator[None]:
    """The broker's queue is deleted again and again: wake-ups get lost."""
    for _ in range(50):
        world.client.delete(NAMESPACE)
        time.sleep(0.01)
    world.did["broker and script tricks"] += 1
    yield
    world.client.delete(NAMESPACE)


@fault(Family.REDIS, 0.5, 1.0)
def replay_messages(world: World, case: Case) -> Iterator[None]:
    """Messages of beat's are caught, and each comes back a hundred times, in any order."""
    caught: list[Any] = []
    deadline = time.monotonic() + 3
    while len(caught) < 5 and time.monotonic() < deadline:
        taken: Any = world.client.blpop([NAMESPACE], timeout=1)
        if taken:
            caught.append(taken[1])
    flood = [message for message in caught for _ in range(100)]
    case.dice.shuffle(flood)
    if flood:
        world.client.rpush(NAMESPACE, *flood)
        world.did["broker and script tricks"] += 1
    yield


# The API


@fault(Family.API, 2.0, 6.0)
def refuse_connections(world: World, case: Case) -> Iterator[None]:
    """Every connection breaks, and new ones are refused."""
    world.simulator.control("POST", "/refuse", {"seconds": case.lasts_s})
    world.did["outages"] += 1
    yield
    world.wait_for_api()


@fault(Family.API, 1.0, LONGEST_FREEZE_S)
def freeze_api(world: World, case: Case) -> Iterator[None]:
    """SIGSTOP: connections are taken and nothing answers; what was sent is obeyed afterwards."""
    os.kill(world.simulator.pid, signal.SIGSTOP)
    world.did["outages"] += 1
    yield
    os.kill(world.simulator.pid, signal.SIGCONT)


def _window(world: World, name: str, *rules: dict[str, Any]) -> Iterator[None]:
    world.open_window(name, *rules)
    world.did["outages"] += 1
    yield
    world.close_window(name)


@fault(Family.API, 2.0, 6.0)
def answer_errors(world: World, case: Case) -> Iterator[None]:
    """Everything is answered with a 5xx, by the API or by a proxy; retry calls may have been obeyed."""
    kind, status = case.dice.choice((("status", 500), ("status", 503), ("html", 502), ("html", 504)))
    when = case.dice.choice(("before", "after")) if status != 503 else "before"  # 503 says: not done
    return _window(world, "errors", {"kind": kind, "status": status, "when": when})


@fault(Family.API, 1.0, 3.0)
def limit_rate(world: World, case: Case) -> Iterator[None]:
    """429 or 503 that says when to come back, in seconds or as a date."""
    come_back = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    rule = {
        "kind": "status",
        "status": case.dice.choice((429, 503)),
        "retry_after": case.dice.choice((2, come_back)),
    }
    return _window(world, "limit", rule)


@fault(Family.API, 1.0, 4.0)
def refuse_key(world: World, case: Case) -> Iterator[None]:
    """401 for everything."""
    return _window(world, "key", {"kind": "unauthorized"})


@fault(Family.API, 2.0, 5.0)
def slow_api(world: World, case: Case) -> Iterator[None]:
    """Everything takes up to three quarters of the time that a call has."""
    return _window(world, "slow", {"kind": "latency", "seconds": case.dice.uniform(0.2, 0.75) * TIMEOUT_S})


@fault(Family.API, 2.0, 5.0)
def hang_list(world: World, case: Case) -> Iterator[None]:
    """The list never answers; all else does."""
    return _window(world, "list", {"operation": "list", "kind": "hang", "seconds": 60})


@fault(Family.API, 2.0, 5.0)
def break_list(world: World, case: Case) -> Iterator[None]:
    """The list is half a JSON document."""
    return _window(world, "list", {"operation": "list", "kind": "broken_body"})
