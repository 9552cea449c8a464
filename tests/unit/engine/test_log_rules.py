"""Asking a log for what is known of a failure: when it is asked, and what follows from each answer."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from worker.domain.executions import Execution, Status
from worker.domain.logs import LogRule, Then
from worker.engine.gatekeeper import GateClosed
from worker.engine.log_rules import (
    HUNG_IN_A_ROW,
    MOST_AT_ONCE,
    MOST_VERDICTS,
    REST_S,
    SLOW_S,
    Readings,
    read_rules,
)
from worker.kinetic import KineticError, NotFound, Throttled, Unreachable

HOLD = LogRule("bad credentials", re.compile("invalid credentials"), Then.HOLD)
STOP = LogRule("any error", re.compile("ERROR"), Then.STOP)
FAILED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class World:
    """An API with one execution, and its log."""

    text: str | None = "INFO\nERROR invalid credentials\n"
    trouble: KineticError | None = None
    asked: list[str] = field(default_factory=list)
    reads: bool = True
    closed: bool = False
    closes: bool = False
    readings: Readings = field(default_factory=Readings)

    @property
    def logs(self) -> World | None:
        return self if self.reads else None

    @property
    def calls(self) -> World:
        return self

    async def pass_gate(self) -> None:
        if self.closed:
            raise GateClosed("gate_closed")

    async def get(self, execution_uuid: str) -> Execution:
        await asyncio.sleep(0)
        self.asked.append(execution_uuid)
        self.closed = self.closed or self.closes
        if self.trouble:
            raise self.trouble
        return Execution(execution_uuid, "v-1", Status.FAILED)

    async def tail(self, execution: Execution) -> str | None:
        self.asked.append(f"log of {execution.uuid}")
        return self.text


async def test_the_first_rule_that_matches_is_returned() -> None:
    """Of the execution that was named, by the order of the rules."""
    world = World()
    assert await read_rules(world, "e-1", (HOLD, STOP)) is HOLD
    assert await read_rules(world, "e-1", (STOP, HOLD)) is STOP
    assert world.asked == ["e-1", "log of e-1"] * 2


@pytest.mark.parametrize("text", [None, "", "INFO fine\n"])
async def test_a_log_that_says_nothing_decides_nothing(text: str | None) -> None:
    """Not readable, empty, or about something else: as if there were no rules."""
    assert await read_rules(World(text), "e-1", (HOLD, STOP)) is None


async def test_nobody_is_asked_in_vain() -> None:
    """Without rules, or where logs are not read, no call is made at all."""
    with_no_reader, with_no_rules = World(reads=False), World()
    assert await read_rules(with_no_reader, "e-1", (HOLD,)) is None
    assert await read_rules(with_no_rules, "e-1", ()) is None
    assert (with_no_reader.asked, with_no_rules.asked) == ([], [])


@pytest.mark.parametrize("trouble", [NotFound("not_found"), Unreachable("read_timeout")])
async def test_an_api_that_does_not_answer_decides_nothing(trouble: KineticError) -> None:
    """The retry call will meet the same and knows better what it means."""
    world = World(trouble=trouble)
    assert await read_rules(world, "e-1", (HOLD,)) is None
    assert world.asked == ["e-1"]


async def test_nobody_is_asked_behind_a_gate_that_closed_meanwhile() -> None:
    """The first calls are asked to rest: those that wait for their place are not made, and know why."""
    world = World(trouble=Throttled("rate_limited"), closes=True)
    read = (read_rules(world, f"e-{n}", (HOLD,)) for n in range(20))
    ends = await asyncio.gather(*read, return_exceptions=True)
    assert {type(each) for each in ends} == {GateClosed}
    assert len(world.asked) == MOST_AT_ONCE


@dataclass
class SlowWorld(World):
    """One whose logs take their time, by a clock that the test moves."""

    takes_s: float = 0.0
    time_s: float = 1000.0
    most: int = 0
    under_way: int = 0

    def __post_init__(self) -> None:
        self.readings.clock_s = lambda: self.time_s

    async def tail(self, execution: Execution) -> str | None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        began_s = self.time_s
        await asyncio.sleep(0)
        self.time_s = max(self.time_s, began_s + self.takes_s)
        self.under_way -= 1
        return await super().tail(execution)

    def read(self) -> int:
        return sum(each.startswith("log of ") for each in self.asked)


async def test_few_logs_are_read_at_once() -> None:
    """However many retries are due; each gets its answer."""
    world = SlowWorld()
    found = await asyncio.gather(*(read_rules(world, f"e-{n}", (HOLD,)) for n in range(20)))
    assert (found, world.most, world.read()) == ([HOLD] * 20, MOST_AT_ONCE, 20)


async def test_calls_that_say_where_logs_are_wait_for_their_place() -> None:
    """A page of failures that came at once is no burst of calls, least of all while the gate opens."""
    world, asked = SlowWorld(), list[int]()
    get = world.get

    async def slow(execution_uuid: str) -> Execution:
        world.under_way += 1
        asked.append(world.under_way)
        await asyncio.sleep(0)
        world.under_way -= 1
        return await get(execution_uuid)

    world.get = slow  # type: ignore[method-assign]
    await asyncio.gather(*(read_rules(world, f"e-{n}", (HOLD,)) for n in range(20)))
    assert (len(asked), max(asked)) == (20, MOST_AT_ONCE)


async def test_a_place_that_hangs_is_left_alone_for_a_minute_and_then_tried_once() -> None:
    """Who waited for a place does not hang as well, and nobody asks for an execution in vain."""
    world = SlowWorld(text=None, takes_s=10.0)
    await asyncio.gather(*(read_rules(world, f"e-{n}", (HOLD,)) for n in range(20)))
    assert world.read() <= MOST_AT_ONCE + HUNG_IN_A_ROW
    asked = list(world.asked)
    assert await read_rules(world, "later", (HOLD,)) is None
    assert world.asked == asked

    for _ in range(2):
        world.time_s += REST_S
        read = world.read()
        await asyncio.gather(*(read_rules(world, f"e-{n}", (HOLD,)) for n in range(20)))
        assert world.read() == read + 1

    world.time_s, world.text, world.takes_s = world.time_s + REST_S, "invalid credentials", 0.0
    assert await read_rules(world, "e-1", (HOLD,)) is HOLD
    assert await asyncio.gather(*(read_rules(world, f"e-{n}", (HOLD,)) for n in range(9))) == [HOLD] * 9


async def test_runs_without_a_log_are_no_reason_to_read_none() -> None:
    """That there is none is said at once: the next log is read, and so is one after a reading in vain."""
    world = SlowWorld(text=None, takes_s=SLOW_S / 2)
    for number in range(HUNG_IN_A_ROW * 3):
        await read_rules(world, f"e-{number}", (HOLD,))
    assert world.read() == HUNG_IN_A_ROW * 3
    world.takes_s = SLOW_S
    for number in range(HUNG_IN_A_ROW - 1):
        await read_rules(world, f"slow-{number}", (HOLD,))
    world.text = "invalid credentials"
    assert await read_rules(world, "e-1", (HOLD,)) is HOLD
    world.text = None
    assert await read_rules(world, "e-2", (HOLD,)) is None
    world.text = "invalid credentials"
    assert await read_rules(world, "e-2", (HOLD,)) is HOLD


async def test_a_log_is_read_once_for_a_failure() -> None:
    """Also when no rule matched; anew for other rules and, retried in place, for the next failure."""
    world = World("ERROR other\n")
    later = FAILED_AT + timedelta(seconds=1)
    for _ in range(2):
        assert await read_rules(world, "e-1", (HOLD,), failed_at=FAILED_AT) is None
        assert await read_rules(world, "e-2", [STOP], failed_at=FAILED_AT) is STOP
    assert world.asked == ["e-1", "log of e-1", "e-2", "log of e-2"]
    assert await read_rules(world, "e-1", (HOLD, STOP), failed_at=FAILED_AT) is STOP
    world.text = "invalid credentials"
    assert await read_rules(world, "e-1", (HOLD, STOP), failed_at=later) is HOLD
    assert await read_rules(world, "e-1", (HOLD, STOP), failed_at=later) is HOLD
    assert world.asked[4:] == ["e-1", "log of e-1"] * 2


@pytest.mark.parametrize("text", [None, ""])
async def test_a_log_that_was_not_there_is_asked_for_again(text: str | None) -> None:
    """It may not be written yet, or could not be had for a moment: that is no verdict."""
    world = World(text)
    assert await read_rules(world, "e-1", (HOLD,), failed_at=FAILED_AT) is None
    world.text = "invalid credentials"
    assert await read_rules(world, "e-1", (HOLD,), failed_at=FAILED_AT) is HOLD


async def test_verdicts_are_bounded() -> None:
    """The oldest go."""
    world = World()
    for number in range(MOST_VERDICTS + 5):
        await read_rules(world, f"e-{number}", (HOLD,), failed_at=FAILED_AT)
    known = world.readings.verdicts
    assert (len(known), "e-4" in known, "e-5" in known) == (MOST_VERDICTS, False, True)
