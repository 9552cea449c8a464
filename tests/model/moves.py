"""What can happen to the cluster: one method for each kind of move.

Two numbers choose among what is there; a move that finds nothing to act on is no step. So a part of a failing
run keeps its meaning when the rest is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tests.model.calls import Call, Point
from tests.model.cluster import Cluster
from tests.model.kinetic_world import Run
from tests.model.process import JOBS, Worker
from tests.model.wire import LOSSES, WITHOUT_EFFECT, HttpCall

PAYLOADS: dict[str, Any] = {"same": {"claim": "same"}, "null": None}
WEIGHTS = {
    "go_on": 8,
    "go_on_for_a_while": 8,
    "finish_the_task": 3,
    "the_others_work": 6,
    "start": 4,
    "start_discover": 3,
    "start_resolve": 3,
    "an_intent_is_recorded": 3,
    "a_call_leaves": 4,
    "a_call_is_lost": 4,
    "a_call_is_turned_away": 1,
    "lose": 2,
    "cut_or_repeat": 3,
    "crash": 2,
    "arrive_late": 4,
    "advance": 5,
    "an_execution_appears": 2,
    "a_run_ends": 4,
    "the_weather_changes": 1,
    "a_person_decides": 4,
    "a_person_pauses": 1,
}
WEATHER: list[tuple[str, str]] = [
    ("clone_status", "queued"),
    ("clone_status", "queued"),
    ("clone_status", "failed"),
    ("clone_status", "completed"),
    ("trouble", "never sent"),
    ("trouble", "error"),
    ("trouble", "unauthorized"),
    ("trouble", "throttled"),
]
SECONDS = [0.6, 3, 6, 6, 6, 12, 22, 31]
T = TypeVar("T")


class Moves:
    """Moves one cluster.

    Args:
        cluster: to be moved.
        payloads: what executions carry, by turns: `own`, `same` or `null`.
    """

    def __init__(self, cluster: Cluster, payloads: list[str]) -> None:
        self.cluster = cluster
        self._payloads = payloads

    # Workers at work

    def start(self, which: int, how: int) -> None:
        self._start(which, sorted(JOBS)[how % len(JOBS)])

    def start_discover(self, which: int, how: int) -> None:
        self._start(which, "discover")

    def start_resolve(self, which: int, how: int) -> None:
        self._start(which, "resolve")

    def go_on(self, which: int, how: int) -> None:
        if chosen := self._standing(which):
            self.cluster.go_on(chosen, _nth(chosen.points, how))
        else:
            self.start(which, how)

    def go_on_for_a_while(self, which: int, how: int) -> None:
        """Move one worker on while the others stand still."""
        if chosen := self._standing(which):
            self._go_on_with(chosen, 2 + how)
        else:
            self.start(which, how)

    def finish_the_task(self, which: int, how: int) -> None:
        if chosen := self._standing(which):
            self._go_on_with(chosen, 100)

    def the_others_work(self, which: int, how: int) -> None:
        """Let all, or all but one, go on for a while; what was given up may arrive meanwhile."""
        stopped = self._standing(which) if which % 3 else None
        others = [each for each in self.cluster.workers if each is not stopped]
        for other in others:
            self._go_on_with(other, 100)
        self.cluster.advance(_nth([4, 12, 31], how))
        self._trouble_is_over()
        for job in _nth([("resolve", "submit"), ("resolve", "discover", "submit", "watch")], how // 3):
            for other in others[: 1 + how % 2]:
                if other.idle:
                    self.cluster.start(other, job)
                    self._go_on_with(other, 100)
        if how // 6:
            self.arrive_late(which, how)

    def an_intent_is_recorded(self, which: int, how: int) -> None:
        """Submit until an intent is on record and its worker does not know yet."""
        self._submit_until(which, how, lambda point: point.call.what.startswith("commit") and point.arrived)

    def a_call_leaves(self, which: int, how: int) -> None:
        """Submit until a retry call stands still on its way."""
        self._submit_until(which, how, self._is_retry)

    def _submit_until(self, which: int, how: int, wanted: Callable[[Point], bool]) -> None:
        """Submit until a call of a certain kind stands still; of a new failure when nothing is due."""
        if not any(each.idle for each in self.cluster.workers):
            self._go_on_with(_nth(self.cluster.workers, which), 100)
        if not self.cluster.ledger.something_is_due():
            self.add("failed", how)
            if found := self._start(which, "discover" if self.cluster.deployment.lists else "watch"):
                self._go_on_with(found, 100)
            self.cluster.advance(6)
        if chosen := self._start(which, "submit"):
            for _ in range(30):
                if chosen.points and not any(map(wanted, chosen.points)):
                    self.cluster.go_on(chosen, chosen.points[0])

    # Workers and wires in trouble

    def a_call_is_lost(self, which: int, how: int) -> None:
        """Leave a worker in doubt: the clone was made, or will be, or never."""
        if found := self._retry_call(which, how):
            if how % 3 == 0:
                self.cluster.go_on(*found)
            self.cluster.lose(*found, late=how % 3 == 1, loss=_nth(list(LOSSES), how // 3))
            if which % 2:
                self._go_on_with(found[0], 60)

    def a_call_is_turned_away(self, which: int, how: int) -> None:
        if found := self._retry_call(which, how):
            self.cluster.turn_away(*found, _nth(list(WITHOUT_EFFECT), how))

    def lose(self, which: int, how: int) -> None:
        if chosen := self._standing(which):
            point = _nth(chosen.points, how // 2)
            self.cluster.lose(chosen, point, late=how % 2 == 1, loss=_nth(list(LOSSES), how))

    def cut_or_repeat(self, which: int, how: int) -> None:
        """Cut a round trip to Redis in two, or let it be sent twice."""
        act, wanted = (
            (self.cluster.arrive_half, self.cluster.can_be_halved)
            if how % 2
            else (self.cluster.send_again, self.cluster.can_be_sent_again)
        )
        found = [each for each in self._points() if wanted(each[1])]
        if found:
            act(*_nth(found, which))

    def crash(self, which: int, how: int) -> None:
        if chosen := self._standing(which):
            self.cluster.crash(chosen, late=how % 2 == 1)

    def arrive_late(self, which: int, how: int) -> None:
        """Let what was given up arrive all the same, retry calls first."""
        network = self.cluster.network
        retries: list[Call] = [each for each in network if isinstance(each, HttpCall) and each.is_retry]
        if network:
            self.cluster.arrive_late(_nth(retries or network, which))

    def advance(self, which: int, how: int) -> None:
        self.cluster.advance(_nth(SECONDS, how))
        if which % 2:
            self._trouble_is_over()

    # The world around them

    def an_execution_appears(self, which: int, how: int) -> None:
        """Fail anew, or be an ordinary run that somebody else began: a stranger."""
        self.add(_nth(["failed", "queued", "completed"], how), which)

    def a_run_ends(self, which: int, how: int) -> None:
        running = [run for run in self.cluster.world.runs.values() if not run.ended]
        if running:
            run: Run = _nth(running, which)
            status = _nth(["failed", "failed", "completed"], how)
            self.cluster.environment(f"run {status}", run.uuid)
            self.cluster.world.end(run, status)

    def the_weather_changes(self, which: int, how: int) -> None:
        """Change a habit of the API, or let the server lose its scripts."""
        if which % 4 == 0:
            self.cluster.environment("scripts flushed")
            self.cluster.server.forget_scripts()
        else:
            name, value = _nth(WEATHER, how)
            self.cluster.environment(f"{name} is now {value or 'none'}")
            setattr(self.cluster.world.habits, name, value)

    def a_person_decides(self, which: int, how: int) -> None:
        """Let somebody retry, hold, release or cancel, whatever workers are doing about it."""
        if done := self.cluster.people.decide(which, how):
            self.cluster.environment(f"a person: {done}")

    def a_person_pauses(self, which: int, how: int) -> None:
        """Let somebody pause everything, or resume."""
        people = self.cluster.people
        self.cluster.environment("a person resumes" if people.paused else "a person pauses")
        if people.paused:
            people.resume()
        else:
            people.pause()

    def _trouble_is_over(self) -> None:
        if self.cluster.world.habits.trouble:
            self.cluster.environment("trouble is over")
            self.cluster.world.habits.trouble = ""

    # Choosing

    def _start(self, which: int, job: str) -> Worker | None:
        idle = [each for each in self.cluster.workers if each.idle]
        if not idle:
            return None
        chosen = _nth(idle, which)
        self.cluster.start(chosen, job)
        return chosen

    def _standing(self, which: int) -> Worker | None:
        workers = [each for each in self.cluster.workers if each.points]
        return _nth(workers, which) if workers else None

    def _points(self) -> list[tuple[Worker, Point]]:
        return [(worker, point) for worker in self.cluster.workers for point in worker.points]

    def _retry_call(self, which: int, how: int) -> tuple[Worker, Point] | None:
        """Return a retry call that has not arrived, letting one leave first if there is none."""
        for _ in range(2):
            if calls := [each for worker in self.cluster.workers for each in self._retry_calls(worker)]:
                return _nth(calls, which)
            self.a_call_leaves(which, how)
        return None

    def _retry_calls(self, worker: Worker) -> list[tuple[Worker, Point]]:
        return [(worker, each) for each in worker.points if self._is_retry(each)]

    @staticmethod
    def _is_retry(point: Point) -> bool:
        """Whether it is a retry call that has not arrived."""
        return isinstance(point.call, HttpCall) and point.call.is_retry and not point.arrived

    def _go_on_with(self, worker: Worker, moments: int) -> None:
        for _ in range(moments):
            if worker.points:
                self.cluster.go_on(worker, worker.points[0])

    def add(self, status: str, which: int) -> None:
        """Add an execution; one whose payload is not its own never comes alone.

        A single stranger with the payload of an unclear call looks like its clone in every respect: that
        one is taken for it, and the design says so. What is shared is known to be.
        """
        payload = _nth(self._payloads, which)
        own = {"claim": len(self.cluster.world.runs)}
        run = self.cluster.world.add(status, "v1", PAYLOADS.get(payload, own))
        self.cluster.environment("failure" if status == "failed" else "stranger", f"{run.uuid} ({payload})")
        if payload in PAYLOADS:
            for _ in range(2):
                self.cluster.world.add("completed", "v1", PAYLOADS[payload])
        if not self.cluster.deployment.lists:
            self.cluster.ledger.track([run.uuid])


def _nth(choices: list[T], number: int) -> T:
    return choices[number % len(choices)]
