"""How an outbox is emptied: each address at its own pace, no message held up by another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import structlog
from structlog.testing import capture_logs

from tests.support.examples import NOW
from worker.alerting.courier import Courier
from worker.alerting.delivery import MOST_REFUSALS, deliver
from worker.domain.alerts import Memory, Message, Severity
from worker.ledger.alerts import Said


class Picky:
    """One address that refuses some messages for what they say."""

    def __init__(self, *refuses: str) -> None:
        self.positions = range(1, 2)
        self.refuses = set(refuses)
        self.got: list[str] = []
        self.asked: list[str] = []

    def name(self, position: int) -> str:
        return "mailto"

    async def send(self, position: int, message: Message) -> str | None:
        self.asked.append(message.title)
        if message.title in self.refuses:
            return "the address at position 1 (mailto) refused it"
        self.got.append(message.title)
        return None


def put(memory: Memory, title: str) -> None:
    memory.put(NOW, "dead_letters", Severity.FAILURE, title, "body")


async def look_for(memory: Memory, picky: Picky, span: timedelta) -> None:
    """Let time pass, with a look every five seconds."""

    async def note(said: list[Said]) -> bool:
        return True

    for second in range(0, int(span.total_seconds()), 5):
        now = NOW + timedelta(seconds=second)
        log: Any = structlog.get_logger()
        await deliver(memory, cast("Courier", picky), lambda now=now: now, note, log)  # type: ignore[misc]


async def test_a_message_that_is_refused_for_what_it_says_holds_up_no_other() -> None:
    """The one behind it arrives within seconds; the refused one is given up, which is said once."""
    memory, picky = Memory("0-0", NOW, NOW), Picky("spam")
    put(memory, "spam")
    put(memory, "no worker is working")
    with capture_logs() as logs:
        await look_for(memory, picky, timedelta(minutes=30))
    assert picky.got == ["no worker is working"]
    assert picky.asked.count("spam") <= MOST_REFUSALS + 1
    assert [line["title"] for line in logs if line["event"] == "alert_given_up"] == ["spam"]
    assert memory.outbox == []


async def test_an_address_that_takes_nothing_loses_nothing() -> None:
    """It may be away: nothing is given up for it, and everything arrives when it is back."""
    memory, picky = Memory("0-0", NOW, NOW), Picky("one", "two")
    put(memory, "one")
    put(memory, "two")
    await look_for(memory, picky, timedelta(minutes=30))
    assert (picky.got, len(memory.outbox)) == ([], 2)
    picky.refuses.clear()
    memory.addresses[1].next_at = None
    await look_for(memory, picky, timedelta(seconds=5))
    assert sorted(picky.got) == ["one", "two"]
    assert memory.outbox == []
