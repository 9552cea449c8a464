"""One look at the ledger for what people have to know, and the saying of it. One process at a time.

Worker and `serve` both do it: a dead worker cannot say that it is dead. The turn in the ledger makes sure
that only one of them says it. What is to be said is stored before it is sent, and taken out when it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from worker.alerting.courier import Courier
from worker.alerting.delivery import GIVEN_UP_AFTER, deliver
from worker.domain import alert_conditions, alert_words, alerts
from worker.domain.alert_conditions import Pause, Situation
from worker.domain.alerts import Memory, Rules
from worker.episodes import Episode
from worker.ledger import Ledger
from worker.ledger.alerts import JOB, Alerts, MemoryLost, MemoryTooNew, Said
from worker.ledger.gate import Closed
from worker.ledger.jobs import Turn
from worker.ledger.reports import Reports, Summary

SERVE_GAP = timedelta(seconds=3)
WORKER_GAP = timedelta(seconds=6.5)
"""Longer than `serve` takes between two turns: while there is one, workers are left to their work."""
LEASE = timedelta(seconds=10)
BLIND_AFTER = timedelta(seconds=25)
"""When nobody has looked for so long, nobody knows what went on; longer than two turns are apart."""
PAGE = 1000
MOST_PAGES = 20


_too_new = Episode()
"""A worker makes an `Alerter` for each turn: what was said outlives them."""


class Alerter:
    """Takes turns at alerting over one ledger.

    Args:
        rules: see `Rules`.
        courier: carries what is to be said.
        log: where it is told what was.
        works: whether this is a worker, whose very turn is a sign of life; else it is `serve`.
    """

    def __init__(self, ledger: Ledger, rules: Rules, courier: Courier, log: Any, *, works: bool) -> None:
        self._ledger, self._rules, self._courier, self._log = ledger, rules, courier, log
        self._works = works
        self._alerts = Alerts(ledger)

    async def turn(self) -> dict[str, int] | None:
        """Look and say; return what was done in numbers, None when it was not our turn.

        Raises:
            LedgerError: the ledger cannot be reached or read.
        """
        jobs = self._ledger.jobs
        turn = await jobs.begin(
            JOB, lease=LEASE, gap=WORKER_GAP if self._works else SERVE_GAP, calls_api=False
        )
        if isinstance(turn, str):
            return None
        try:
            async with jobs.keeping(turn):
                done = await self._do(turn)
        except MemoryTooNew as error:
            if _too_new.met():  # once in this process, which cannot do anything about it
                self._log.error(
                    "alert_memory_too_new", detail=str(error), next="alerts are left to newer ones"
                )
            return None
        else:
            _too_new.well()
            return done
        finally:
            await jobs.finish(turn)

    async def _do(self, turn: Turn) -> dict[str, int]:
        summary = await Reports(self._ledger).summary()
        memory = await self._memory(summary)
        self._see(memory, summary)
        behind = await self._hear(memory)
        await self._judge(memory, summary)
        self._put_gathered(memory, behind=behind)

        async def note(said: Sequence[Said]) -> bool:
            return await self._alerts.save(turn, memory, said)

        if not await note([]):
            return {"sent": 0, "failed": 0}  # taken for dead meanwhile: another one says it
        return await deliver(memory, self._courier, self._ledger.clock.now, note, self._log)

    async def _memory(self, summary: Summary) -> Memory:
        try:
            known = await self._alerts.memory()
        except MemoryLost as error:
            self._log.error("alert_memory_lost", detail=str(error), next="alerts begin anew, and say so")
            fresh = await self._begun(summary)
            alert_words.put_lost(fresh, self._rules, summary.now)
            return fresh
        if known is None:
            return await self._begun(summary)
        if summary.now - known.turned_at > GIVEN_UP_AFTER or await self._alerts.trimmed(known.cursor):
            since = alerts.skip(known, await self._alerts.newest())
            alert_words.put_off(known, self._rules, summary.now, since)
        return known

    async def _begun(self, summary: Summary) -> Memory:
        # What happened before is old news: turning alerts on must not begin with a month of dead letters.
        return Memory(await self._alerts.newest(), summary.now, summary.now)

    def _see(self, memory: Memory, summary: Summary) -> None:
        if summary.now - memory.turned_at > BLIND_AFTER:
            memory.seeing_since = summary.now
        memory.turned_at = summary.now
        if not self._works:
            memory.serve_at = summary.now
        tick = summary.ticks.get("discover")
        if tick and tick.did.get("pages"):  # without pages it failed
            memory.listed_at = tick.finished_at

    async def _hear(self, memory: Memory) -> bool:
        """Take in what happened; return whether there is more that was not read."""
        for _ in range(MOST_PAGES):
            before = memory.cursor
            memory.cursor, news = await self._alerts.news(before, PAGE)
            alerts.hear(memory, news)
            if memory.cursor == before:
                return False
        return True

    async def _judge(self, memory: Memory, summary: Summary) -> None:
        signs = [tick.finished_at for tick in summary.ticks.values()]
        signs += await self._alerts.signs_of_life()
        situation = situation_of(summary, memory, signs, works=self._works)
        wrong = alert_conditions.look(situation, self._rules)
        since = {key: each.since for key, each in memory.open.items()}
        unclear = alert_conditions.unclear(situation, since)
        begun, over = alerts.follow(memory, wrong, self._rules, summary.now, unclear)
        for each, known in begun:
            alert_words.put_wrong(memory, self._rules, summary.now, each, known)
        for key, known in over:
            alert_words.put_over(memory, self._rules, summary.now, key, known)

    def _put_gathered(self, memory: Memory, *, behind: bool) -> None:
        now = memory.turned_at
        alone, together = alerts.take_due(memory, self._rules, now, behind=behind)
        for each in alone:
            alert_words.put_gathered(memory, self._rules, now, each)
        if together:
            alert_words.put_summary(memory, self._rules, now, together)


def situation_of(summary: Summary, memory: Memory, signs: Sequence[datetime], *, works: bool) -> Situation:
    """Return what is known now, from what the ledger says."""
    gate, halt = summary.gate, summary.gate.halt
    return Situation(
        now=summary.now,
        known_since=min(summary.started_at or memory.seeing_since, memory.seeing_since),
        seeing_since=memory.seeing_since,
        alive_at=max(signs, default=None),
        works=works,
        listed_at=memory.listed_at,
        serve_at=memory.serve_at,
        suspended=gate.closed is Closed.SUSPENDED,
        down=gate.closed is Closed.DOWN,
        throttled=gate.paused_until is not None,
        gate_since=gate.since,
        reason=gate.reason if gate.closed else gate.pause_reason,
        detail=gate.detail if gate.closed else "",
        pause=Pause(halt.by, halt.why, halt.since, halt.until) if halt else None,
    )


async def take_leave(ledger: Ledger) -> bool:
    """Let it be known that `serve` ends as it should, so that nobody is told that it is gone.

    Returns False when a turn was under way: then its end is told like any other.
    """
    stored = Alerts(ledger)
    turn = await ledger.jobs.begin(JOB, lease=LEASE, gap=timedelta(0), calls_api=False)
    if isinstance(turn, str):
        return False
    try:
        memory = await stored.memory()
        if memory is None:
            return True
        memory.serve_at = None
        return await stored.save(turn, memory)
    finally:
        await ledger.jobs.finish(turn)
