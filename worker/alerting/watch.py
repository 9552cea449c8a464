"""What `serve` does for alerts: its turn at the ledger, and the word that the ledger itself is away.

While Redis does not answer nobody can take a turn, so only `serve` speaks, from its own memory. Two `serve`
processes that both lost Redis both say so: better twice than never.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.alerting.courier import Courier
from worker.alerting.delivery import deliver
from worker.alerting.turn import Alerter, take_leave
from worker.domain import alert_words, alerts
from worker.domain.alert_conditions import ledger_unreadable, redis_away
from worker.domain.alerts import Memory, Rules, Wrong
from worker.ledger import Ledger, LedgerError, LedgerFormatError
from worker.ledger.alerts import Said

EVERY = timedelta(seconds=5)
"""How often `look` wants to be called."""
AWAY_FOR = timedelta(seconds=12)
"""How long Redis has to be away before it is said: a restart or a failover is no news."""
BACK_FOR = timedelta(seconds=8)
"""Longer than two looks are apart: one answer alone does not end an outage."""
ANSWER_WITHIN_S = 5.0
TURN_WITHIN_S = 30.0
LEAVE_WITHIN_S = 0.4


class Watch:
    """Watches over one ledger from outside, on the event loop that the ledger belongs to."""

    def __init__(
        self,
        ledger: Ledger,
        rules: Rules,
        courier: Courier,
        log: Any,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        away_for: timedelta = AWAY_FOR,
    ) -> None:
        self._ledger, self._courier, self._log, self._now = ledger, courier, log, now
        self._rules = rules
        self._away_for = away_for
        self._alerter = Alerter(ledger, rules, courier, log, works=False)
        self._own = Memory("", now(), now())
        self._trouble_since: datetime | None = None

    async def look(self) -> None:
        """Take a turn if it is ours, and say when Redis is away or back. Raises nothing for that."""
        began = self._now()
        try:
            await self._reach()
            async with asyncio.timeout(TURN_WITHIN_S):
                await self._alerter.turn()
        except LedgerFormatError as error:  # Redis is there: that must not be told as an outage of it
            self._trouble_since = self._trouble_since or began
            await self._say(ledger_unreadable(self._trouble_since, self._away_for, str(error)))
        except (LedgerError, TimeoutError) as error:
            self._trouble_since = self._trouble_since or began
            detail = str(error) or "Redis did not answer in time"
            await self._say(redis_away(self._trouble_since, self._away_for, detail))
        else:
            self._trouble_since = None
            await self._say()

    async def leave(self) -> None:
        """Say to the ledger that this process ends as it should; to be called before the ledger is closed."""
        with suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(LEAVE_WITHIN_S):
                await take_leave(self._ledger)

    async def _reach(self) -> None:
        # redis-py tries for longer than people want to wait for the word that it does not answer.
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await self._ledger.connection.command("TIME")
        except TimeoutError:
            waited_s = time.monotonic() - begun_s
            raise TimeoutError(f"Redis did not answer within {waited_s:.0f} s") from None

    async def _say(self, *trouble: Wrong) -> None:
        wrong = [replace(each, settle=BACK_FOR) for each in trouble]
        now = self._now()
        begun, over = alerts.follow(self._own, wrong, self._rules, now)
        for each, known in begun:
            alert_words.put_wrong(self._own, self._rules, now, each, known)
        for key, known in over:
            alert_words.put_over(self._own, self._rules, now, key, known)
        if self._own.outbox:
            await deliver(self._own, self._courier, self._now, _noted, self._log)


async def _noted(_: list[Said]) -> bool:
    return True
