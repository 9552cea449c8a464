"""What the worker's parent process knows of its own health, written down by Celery's own timer.

It knows its connection, its pool's processes and its requests; whether a process that works still turns its
event loop it reads from `worker.signs`. `health` itself must not import Celery.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from billiard.process import current_process
from celery import bootsteps, signals
from celery.worker import state as requests

from worker import runtime, signs

ASK_AFTER_S = 15.0
"""Without a tick for so long, and with processes that are free, the broker is asked whether any wait."""


class Vitals:
    """The facts about this worker, gathered by its parent process.

    Attributes:
        state: `no_broker`, `consuming`, and for good `stopping`.
    """

    def __init__(self) -> None:
        self.worker: Any = None
        self.state = "no_broker"
        self._since_s = self._asked_at_s = time.monotonic()
        self._tick_at_s: float | None = None
        self._handed: dict[str, float] = {}
        self._lasting: dict[str, float] = {}

    def enter(self, state: str) -> None:
        """Take note that there is a broker, or none."""
        if state != self.state != "stopping":
            self.state, self._since_s = state, time.monotonic()
            self._lasting.pop("deaf_since", None)

    def received(self) -> None:
        """Take note of a message, whatever it holds: this worker is not deaf."""
        self._tick_at_s = time.monotonic()
        self._lasting.pop("deaf_since", None)

    def write(self) -> None:
        """Write the worker's file."""
        signs.write("worker", self.facts())

    def facts(self) -> dict[str, Any]:
        """Return what is known; times count from the start of the machine."""
        now_s = time.monotonic()
        if runtime.stopping.value:
            self.enter("stopping")
        running = self._running(now_s)
        alive, wanted = self._processes()
        self._note("short_since", alive < wanted, now_s)
        free = alive > len(running)
        self._note_stuck(free, now_s)
        self._note_deaf(free, now_s)
        return {
            "state": self.state,
            "since": self._since_s,
            "tick_at": self._tick_at_s,
            "running": running,
            **self._lasting,
        }

    def _running(self, now_s: float) -> list[dict[str, Any]]:
        return [
            {
                "job": request.name.rpartition(".")[2],
                "pid": request.worker_pid,
                "since": now_s - max(0.0, time.time() - request.time_start),
                "sign": signs.pulse_of(request.worker_pid),
            }
            for request in tuple(requests.active_requests)
            if request.time_start and request.worker_pid
        ]

    def _processes(self) -> tuple[int, int]:
        """Return how many processes live and how many should. A worker without a pool counts as one."""
        pool: Any = getattr(getattr(self.worker, "pool", None), "_pool", None)
        processes = getattr(pool, "_pool", None)
        if processes is None:
            return 1, 1
        return sum(each.exitcode is None for each in tuple(processes)), pool._processes  # noqa: SLF001

    def _note(self, fact: str, holds: bool, now_s: float) -> None:
        if holds:
            self._lasting.setdefault(fact, now_s)
        else:
            self._lasting.pop(fact, None)

    def _note_stuck(self, free: bool, now_s: float) -> None:
        """Note how long the oldest request has waited for a process while one was free all along."""
        waiting = {
            each.id for each in tuple(requests.reserved_requests) if each not in requests.active_requests
        }
        seen = {each: self._handed.get(each, now_s) for each in waiting} if free else {}
        self._handed = seen
        if seen:
            self._lasting["stuck_since"] = min(seen.values())
        else:
            self._lasting.pop("stuck_since", None)

    def _note_deaf(self, free: bool, now_s: float) -> None:
        """Note since when ticks wait in the queues while this worker could take some and takes none."""
        quiet_s = now_s - max(self._since_s, self._tick_at_s or 0)
        if self.state != "consuming" or not free or quiet_s < ASK_AFTER_S:
            self._lasting.pop("deaf_since", None)
        elif now_s - self._asked_at_s >= ASK_AFTER_S:
            self._asked_at_s = now_s
            self._note("deaf_since", self._ticks_wait(), now_s)

    def _ticks_wait(self) -> bool:
        """Ask the broker, over the connection that is there. No answer is held against nobody."""
        with contextlib.suppress(Exception):
            consumer = self.worker.consumer.task_consumer
            return any(_waiting(consumer.channel, each.name) for each in consumer.queues)
        return False


def _waiting(channel: Any, queue: str) -> int:
    """Return how many messages wait in a queue."""
    if hasattr(channel, "_size"):  # Redis: there an empty queue does not exist, and to declare it is an error
        return int(channel._size(queue))  # noqa: SLF001
    return int(channel.queue_declare(queue, passive=True).message_count)


vitals = Vitals()


class WorkerHeartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Writes the worker's file from its own timer, so a stuck main loop shows."""

    requires = frozenset({"celery.worker.components:Timer"})

    def start(self, parent: Any) -> None:
        """Begin writing. It does not end before the timer does: a warm stop can take minutes."""
        vitals.worker = parent
        vitals.write()
        signs.at_each_pulse(vitals.write)
        parent.timer.call_repeatedly(signs.WRITE_EVERY_S, vitals.write)

    def stop(self, parent: Any) -> None:  # noqa: ARG002  # Celery's signature
        """Say that it is stopping: nothing that stands still from here on is held against it."""
        vitals.enter("stopping")
        vitals.write()


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _take_slot(**_: object) -> None:
    signs.take_slot(1 + (getattr(current_process(), "index", None) or 0))
