"""The pool: never cancels what it began, and says what it did not begin."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from worker.engine.pool import Pool

LONG = timedelta(seconds=30)


class Supply:
    """Brings the batches it was given, then nothing."""

    def __init__(self, *batches: list[int]) -> None:
        self.batches = list(batches)
        self.asked = 0

    async def __call__(self) -> Sequence[int]:
        self.asked += 1
        return self.batches.pop(0) if self.batches else []


async def test_everything_is_worked_on_once() -> None:
    """In any number of batches, with bounded concurrency."""
    done: list[int] = []
    busy = most = 0

    async def work(item: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        done.append(item)
        busy -= 1

    supply = Supply([1, 2, 3, 4, 5], [6, 7])
    pool = Pool(supply, work, concurrency=3, budget=LONG, keep_going=lambda: True)
    await pool.run()
    assert (sorted(done), pool.not_begun, most) == ([1, 2, 3, 4, 5, 6, 7], [], 3)


async def test_an_idle_pool_asks_once() -> None:
    """Twenty places do not cost twenty claims when nothing is due."""
    supply = Supply()

    async def work(item: int) -> None:
        raise AssertionError

    await Pool(supply, work, concurrency=20, budget=LONG, keep_going=lambda: True).run()
    assert supply.asked == 1


async def test_a_failure_lets_the_others_finish_and_starts_no_more() -> None:
    """A retry call that is cancelled in flight would have an unknown outcome."""
    finished: list[int] = []
    release = asyncio.Event()

    async def work(item: int) -> None:
        if item == 1:
            raise OSError("redis is away")
        await release.wait()
        finished.append(item)

    pool = Pool(Supply([0, 1, 2, 3]), work, concurrency=2, budget=LONG, keep_going=lambda: True)
    running = asyncio.create_task(pool.run())
    await asyncio.sleep(0.01)
    assert not running.done()
    release.set()
    with pytest.raises(OSError, match="away"):
        await running
    assert finished == [0]
    assert pool.not_begun == [2, 3]


async def test_what_was_not_begun_is_given_back() -> None:
    """Asked to stop, it finishes what it has and returns the rest."""
    done: list[int] = []

    async def work(item: int) -> None:
        done.append(item)

    pool = Pool(Supply([1, 2, 3, 4]), work, concurrency=1, budget=LONG, keep_going=lambda: len(done) < 2)
    await pool.run()
    assert pool.not_begun == [3, 4]
    assert done == [1, 2]


async def test_free_places_serve_what_falls_due_while_a_slow_call_is_under_way() -> None:
    """One hanging request must not idle the other nineteen places."""
    slow = asyncio.Event()
    done: list[int] = []

    async def work(item: int) -> None:
        if item == 0:
            await slow.wait()
        done.append(item)
        if item == 7:
            slow.set()

    await Pool(Supply([0], [], [7]), work, concurrency=4, budget=LONG, keep_going=lambda: True).run()
    assert sorted(done) == [0, 7]


async def test_the_next_batch_is_asked_for_before_the_queue_is_empty() -> None:
    """Nobody waits for a claim while there is a backlog; and what is empty is not asked again and again."""
    left_when_asked: list[int] = []
    batches = [list(range(10)), list(range(10, 20))]

    async def supply() -> Sequence[int]:
        left_when_asked.append(len(pool._queue))
        await asyncio.sleep(0)
        return batches.pop(0) if batches else []

    async def work(item: int) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    pool = Pool(supply, work, concurrency=4, budget=LONG, keep_going=lambda: True)
    await pool.run()
    assert (left_when_asked[0], batches) == (0, [])
    assert left_when_asked[1] > 0
    assert len(left_when_asked) <= 5
