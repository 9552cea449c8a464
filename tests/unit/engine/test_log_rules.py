"""Asking a log for what is known of a failure: when it is asked, and what follows from each answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from worker.domain.executions import Execution, Status
from worker.domain.logs import LogRule, Then
from worker.engine.log_rules import read_rules
from worker.kinetic import KineticError, NotFound, Unreachable

HOLD = LogRule("bad credentials", re.compile("invalid credentials"), Then.HOLD)
STOP = LogRule("any error", re.compile("ERROR"), Then.STOP)


@dataclass
class World:
    """An API with one execution, and its log."""

    text: str | None = "INFO\nERROR invalid credentials\n"
    trouble: KineticError | None = None
    asked: list[str] = field(default_factory=list)
    reads: bool = True

    @property
    def logs(self) -> World | None:
        return self if self.reads else None

    @property
    def calls(self) -> World:
        return self

    async def get(self, execution_uuid: str) -> Execution:
        self.asked.append(execution_uuid)
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
