"""What the worker's parent process and beat know of themselves, over stand-ins for Celery's objects."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

KEYS = {"KINETIC_BASE_URL": "http://127.0.0.1:1", "KINETIC_API_KEY": "canary-key"}


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return self.now_s + 1e9


class World:
    """A worker with two processes, its queue, and the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from worker import heartbeat, runtime

        self.clock = Clock()
        self.waiting, self.asked = 0, 0
        self.processes = [SimpleNamespace(exitcode=None) for _ in range(2)]
        self.requests = SimpleNamespace(active_requests=set(), reserved_requests=set())
        monkeypatch.setattr(heartbeat, "time", self.clock)
        monkeypatch.setattr(heartbeat, "requests", self.requests)
        self.stopping = SimpleNamespace(value=0)
        monkeypatch.setattr(runtime, "stopping", self.stopping)
        self.vitals = heartbeat.Vitals()
        channel = SimpleNamespace(_size=self._size)
        consumer = SimpleNamespace(channel=channel, queues=[SimpleNamespace(name="ticks")])
        self.vitals.worker = SimpleNamespace(
            pool=SimpleNamespace(_pool=SimpleNamespace(_pool=self.processes, _processes=2)),
            consumer=SimpleNamespace(task_consumer=consumer),
        )
        self.vitals.enter("consuming")

    def _size(self, _queue: str) -> int:
        self.asked += 1
        return self.waiting

    def after(self, seconds: float) -> dict[str, Any]:
        """Let time pass, with the facts gathered every few seconds; return the last ones."""
        end_s = self.clock.now_s + seconds
        facts: dict[str, Any] = {}
        while self.clock.now_s < end_s:
            self.clock.now_s += 2
            facts = self.vitals.facts()
        return facts

    def hand_over(self, name: str, *, begun: bool) -> Any:
        request = Request(name, self.clock.time() if begun else None, 8 if begun else None)
        self.requests.reserved_requests.add(request)
        if begun:
            self.requests.active_requests.add(request)
        return request


class Request:
    """What Celery keeps of a message."""

    def __init__(self, name: str, time_start: float | None, worker_pid: int | None) -> None:
        self.id, self.name = f"{name}-{id(self)}", f"kinetic_retry.{name}"
        self.time_start, self.worker_pid = time_start, worker_pid


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    return World(monkeypatch)  # type: ignore[return-value]


def test_a_worker_that_takes_nothing_of_what_waits_is_deaf(world: World) -> None:
    """Asked only after a silence; over when one arrives."""
    world.waiting = 3
    assert "deaf_since" not in world.after(14)
    assert world.asked == 0
    since = world.after(40)["deaf_since"]
    assert world.after(40)["deaf_since"] == since
    assert world.asked <= 6
    world.vitals.received()
    assert "deaf_since" not in world.vitals.facts()


def test_a_worker_with_nothing_to_take_is_not_deaf(world: World) -> None:
    """Beat is away, or others were faster: at one look at least nothing waited."""
    world.waiting = 3
    world.after(40)
    world.waiting = 0
    assert "deaf_since" not in world.after(20)


def test_a_worker_whose_processes_are_all_busy_is_not_deaf(world: World) -> None:
    """It takes no more than it can do, and that for as long as it takes."""
    world.waiting = 3
    for _ in range(2):
        world.hand_over("discover", begun=True)
    world.hand_over("submit", begun=False)
    facts = world.after(500)
    assert {"deaf_since", "stuck_since", "short_since"} & set(facts) == set()
    assert sorted(each["job"] for each in facts["running"]) == ["discover", "discover"]
    assert facts["running"][0]["since"] == pytest.approx(1000)


def test_a_worker_without_a_broker_is_not_deaf(world: World) -> None:
    """Nor is its broker asked."""
    world.waiting = 3
    world.vitals.enter("no_broker")
    facts = world.after(100)
    assert ("deaf_since" in facts, facts["state"], world.asked) == (False, "no_broker", 0)


def test_a_broker_that_does_not_answer_is_held_against_nobody(world: World) -> None:
    """The question fails, the work goes on."""
    world.vitals.worker.consumer = None
    assert "deaf_since" not in world.after(100)


def test_a_tick_that_no_free_process_begins_is_stuck(world: World) -> None:
    """Since it was handed over; over when it is begun."""
    request = world.hand_over("submit", begun=False)
    assert world.after(70)["stuck_since"] == pytest.approx(1002)
    world.requests.active_requests.add(request)
    assert "stuck_since" not in world.after(2)


def test_ticks_that_are_begun_one_after_the_other_are_not_stuck(world: World) -> None:
    """There is always one that waits, and never the same for long."""
    facts: dict[str, Any] = {}
    for _ in range(40):
        request = world.hand_over("submit", begun=False)
        facts = world.after(2)
        world.requests.reserved_requests.discard(request)
    assert facts["stuck_since"] == pytest.approx(world.clock.now_s)


def test_missing_processes_are_noted_since_when(world: World) -> None:
    """A dip while one is replaced is over before it counts."""
    world.processes[0].exitcode = -9
    assert world.after(70)["short_since"] == pytest.approx(1002)
    world.processes[0].exitcode = None
    assert "short_since" not in world.after(2)


def test_stopping_is_for_good(world: World) -> None:
    """A connection that breaks or comes back meanwhile does not change it."""
    world.stopping.value = 1
    facts = world.after(2)
    world.vitals.enter("no_broker")
    assert (facts["state"], world.vitals.state) == ("stopping", "stopping")


def test_beat_tells_want_of_a_broker_from_other_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connection refused and a server that refuses are the broker's; a mistake of ours is not."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    from celery import Celery
    from kombu.exceptions import OperationalError

    from worker.beat import Scheduler

    app = Celery(broker="redis://127.0.0.1:1/0")
    scheduler = Scheduler(app, lazy=True)
    (refused,) = [
        each for each in app.connection_for_write().channel_errors if each.__name__ == "ResponseError"
    ]

    def trouble(cause: Exception) -> Any:
        def fail(*_: object, **__: object) -> None:
            try:
                raise cause
            except Exception:  # noqa: BLE001
                raise RuntimeError("wrapped") from None

        monkeypatch.setattr(scheduler, "apply_async", fail)
        scheduler.apply_entry(SimpleNamespace())
        return scheduler.facts()["state"]

    assert trouble(OperationalError("refused")) == "no_broker"
    assert trouble(refused("READONLY")) == "no_broker"
    assert trouble(TypeError("a mistake")) == "well"
    monkeypatch.setattr(scheduler, "apply_async", lambda *_, **__: None)
    before = time.monotonic()
    scheduler.apply_entry(SimpleNamespace())
    assert scheduler.facts()["sent_at"] >= before


def test_beat_sleeps_until_a_tick_is_due(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One look that sends, one that says how long to sleep; Celery's own beat spins for 10 ms each time."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    from celery import Celery

    from worker.beat import Scheduler

    app = Celery(broker="memory://")
    app.conf.update(
        beat_schedule={"submit": {"task": "submit", "schedule": timedelta(milliseconds=300)}},
        beat_max_loop_interval=1,
    )
    scheduler = Scheduler(app, lazy=True)
    scheduler.setup_schedule()
    sent: list[str] = []
    monkeypatch.setattr(scheduler, "apply_async", lambda entry, **_: sent.append(entry.task))
    looks = 0
    while len(sent) < 4:
        time.sleep(max(0.0, scheduler.tick()))
        looks += 1
    assert looks <= 3 * len(sent)
