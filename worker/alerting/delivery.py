"""Empties an outbox: every message to every address, each address at its own pace.

An address that fails is left alone for a while, longer each time, and holds up no other. What was delivered
is noted at once, so that a crash repeats one message at most for each address, and loses none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from worker.alerting.courier import Courier
from worker.domain.alerts import MOST_WAITING, Address, Memory, Message
from worker.ledger.alerts import Said

FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=10)
GIVEN_UP_AFTER = timedelta(hours=24)
"""What nobody could be told for so long is no news any more: `alert list` and the log still have it."""
MOST_REFUSALS = 3
"""An address that takes other messages and has refused one so often does so for what it says."""
STARTS_WITHIN_S = 5.0
"""No message is begun later than this in one turn: a turn is short."""

Note = Callable[[list[Said]], Awaitable[bool]]
"""Puts the memory and what was said on record; False when that is not ours to do any more."""


async def deliver(
    memory: Memory, courier: Courier, now: Callable[[], datetime], note: Note, log: Any
) -> dict[str, int]:
    """Send what is due; return how many messages were sent, and how many tries failed."""
    run = _Delivery(memory, courier, now, note, log)
    await run.give_up()
    await asyncio.gather(*(run.to(position) for position in courier.positions))
    return {"sent": run.sent, "failed": run.failed}


class _Delivery:
    """One turn's deliveries."""

    def __init__(
        self, memory: Memory, courier: Courier, now: Callable[[], datetime], note: Note, log: Any
    ) -> None:
        self._memory, self._courier, self._now, self._note, self._log = memory, courier, now, note, log
        self._until_s = time.monotonic() + STARTS_WITHIN_S
        self._noting = asyncio.Lock()
        self._ours = True
        self.sent = self.failed = 0

    async def to(self, position: int) -> None:
        """Send one address what it does not have yet, oldest first, until it refuses one.

        What it refused before comes last: a message that it takes for spam must not hold up all others.
        """
        address = self._memory.addresses.setdefault(position, Address())
        if address.next_at and self._now() < address.next_at:
            return
        lacking = [
            each for each in self._memory.outbox if position not in self._memory.delivered.get(each.id, ())
        ]
        address.refused = {each.id: n for each in lacking if (n := address.refused.get(each.id))}
        for message in sorted(lacking, key=lambda each: address.refused.get(each.id, 0)):
            if not self._ours or time.monotonic() > self._until_s:
                return
            complaint = await self._courier.send(position, message)
            if complaint:
                await self._refused(address, position, message, complaint)
                return
            await self._taken(address, position, message)

    async def give_up(self) -> None:
        """Take out what is too old to be news."""
        now = self._now()
        some_have_it = [each for each in self._memory.outbox if self._memory.delivered.get(each.id)]
        # An address that is gone for good must not pile up what all others have.
        for message in [
            *(each for each in self._memory.outbox if now - each.at >= GIVEN_UP_AFTER),
            *some_have_it[:-MOST_WAITING],
        ]:
            self._log.error(
                "alert_given_up", about=message.about, title=message.title, made_at=_iso(message.at)
            )
            self._drop(message)
            await self._write([Said(now, message.about, message.severity, message.title, 0)])
        left = set(self._courier.positions)
        for position in [each for each in self._memory.addresses if each not in left]:
            del self._memory.addresses[position]  # there are fewer addresses than there were
        for message in list(self._memory.outbox):
            if left <= set(self._memory.delivered.get(message.id, ())):
                self._drop(message)

    async def _taken(self, address: Address, position: int, message: Message) -> None:
        if address.tries:
            self._log.info("alert_address_back", address=self._courier.name(position))
        address.tries, address.next_at = 0, None
        address.refused.pop(message.id, None)
        address.takes_others = bool(address.refused)
        self.sent += 1
        self._log.info("alert_sent", about=message.about, title=message.title, address=position)
        await self._settled(message, position, position)

    async def _settled(self, message: Message, position: int, told: int) -> None:
        """Take note that an address has a message, or (`told` 0) never will."""
        got = self._memory.delivered.setdefault(message.id, [])
        got.append(position)
        if set(self._courier.positions) <= set(got):
            self._drop(message)
        await self._write([Said(self._now(), message.about, message.severity, message.title, told)])

    async def _refused(self, address: Address, position: int, message: Message, complaint: str) -> None:
        times = address.refused[message.id] = address.refused.get(message.id, 0) + 1
        if address.takes_others and times >= MOST_REFUSALS:
            self.failed += 1
            self._log.error(
                "alert_given_up", about=message.about, title=message.title, made_at=_iso(message.at),
                address=position, detail=complaint,
            )  # fmt: skip
            del address.refused[message.id]
            await self._settled(message, position, 0)
            return
        pause = min(FIRST_PAUSE * 2 ** min(address.tries, 10), LONGEST_PAUSE)
        address.tries, address.next_at = address.tries + 1, self._now() + pause
        self.failed += 1
        tell = self._log.warning if address.tries == 1 else self._log.info  # once per episode
        tell(
            "alert_not_sent",
            about=message.about,
            detail=complaint,
            next=f"kept; trying again in {pause.total_seconds():.0f} s",
        )
        await self._write([])

    def _drop(self, message: Message) -> None:
        if message in self._memory.outbox:
            self._memory.outbox.remove(message)
        self._memory.delivered.pop(message.id, None)

    async def _write(self, said: list[Said]) -> None:
        async with self._noting:
            self._ours = self._ours and await self._note(said)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
