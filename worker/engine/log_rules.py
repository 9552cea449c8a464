"""Ask a failed run's log what is known of such failures, by the rules of the policy file.

A log is an extra, and where logs are kept is another system than the one that retries. So few are read at
once, a place that hangs is left alone for a while, and what a log said of a failure is remembered: a retry
that has to wait for room comes by here again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from worker.domain.executions import Execution
from worker.domain.logs import LogRule, first_match
from worker.engine.gatekeeper import GateClosed
from worker.kinetic import KineticError

MOST_AT_ONCE = 4
"""Readings under way per process, with the call that says where the log is; a retry call waits."""
SLOW_S = 1.0
"""A reading that took this long in vain counts as hung. One that failed at once (no log, no such host) held
up nobody, and is no reason to leave the logs of other runs unread."""
HUNG_IN_A_ROW = 3
REST_S = 60.0
"""How long no log is read after so many; then one reading tries whether it goes again."""
MOST_VERDICTS = 2000


class Logs(Protocol):
    """Where logs come from; `worker.kinetic.logs.LogReader` is one."""

    async def tail(self, execution: Execution) -> str | None:
        """Return the end of an execution's log; None when there is none to be had. Never raises."""


class Executions(Protocol):
    """Where executions come from: the API behind the gate."""

    async def get(self, execution_uuid: str) -> Execution:
        """Return an execution; raises `KineticError`."""

    async def pass_gate(self) -> None:
        """Raise `GateClosed` where calls may not go on."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a failure's log said, by these rules: the rule that matches, or None."""

    failed_at: datetime
    rules: tuple[LogRule, ...]
    found: LogRule | None


@dataclass(slots=True)
class Readings:
    """What one process knows of the place where logs are kept.

    Attributes:
        at_once: bounds the readings under way.
        hung: readings in a row that hung.
        rests_until_s: no log is read before, while `hung` says so; by the monotonic clock.
        verdicts: by execution, the oldest first.
    """

    clock_s: Callable[[], float] = time.monotonic
    at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))
    hung: int = 0
    rests_until_s: float = 0.0
    verdicts: dict[str, _Verdict] = field(default_factory=dict)

    @property
    def rests(self) -> bool:
        """Whether no log is read now."""
        return self.hung >= HUNG_IN_A_ROW and self.clock_s() < self.rests_until_s

    async def read(self, logs: Logs, executions: Executions, uuid: str) -> str | None:
        """Return the end of a run's log; None when there is none to be had, or logs are left alone for now.

        A page of failures brings many at once: the calls that say where their logs are wait for a place as
        well, and are not made behind a gate that was closed meanwhile.

        Raises:
            KineticError: the execution cannot be read; `GateClosed` when it must not be asked for.
        """
        async with self.at_once:
            if self.rests:  # the three before this one hung while it waited for its place
                return None
            tries = self.hung >= HUNG_IN_A_ROW
            rested_until_s = self.rests_until_s
            if tries:  # after a rest, and alone: the others rest on
                self.rests_until_s = self.clock_s() + REST_S
            try:
                await executions.pass_gate()
                execution = await executions.get(uuid)
            except BaseException:
                self.rests_until_s = rested_until_s
                raise
            began_s = self.clock_s()
            text = await logs.tail(execution)
            ended_s = self.clock_s()
            if text is not None:
                self.hung = 0
            elif ended_s - began_s >= SLOW_S:
                self.hung += 1
                self.rests_until_s = ended_s + REST_S
            elif tries:  # it said nothing of the place: the next one tries
                self.rests_until_s = ended_s
            return text

    def remember(self, execution_uuid: str, verdict: _Verdict) -> None:
        """Keep a verdict, and let the oldest go where there are too many."""
        self.verdicts.pop(execution_uuid, None)
        self.verdicts[execution_uuid] = verdict
        while len(self.verdicts) > MOST_VERDICTS:
            del self.verdicts[next(iter(self.verdicts))]


class World(Protocol):
    """The part of a `Context` that is needed here."""

    @property
    def logs(self) -> Logs | None:
        """None where logs are not read."""

    @property
    def calls(self) -> Executions:
        """See `Executions`."""

    @property
    def readings(self) -> Readings:
        """What this process knows of the place where logs are kept."""


async def read_rules(
    ctx: World, execution_uuid: str, rules: Sequence[LogRule], *, failed_at: datetime | None = None
) -> LogRule | None:
    """Return the first rule that a failed execution's log matches; None when none does or nobody can tell.

    A log that cannot be read decides nothing: the failure is then treated as if there were no rules. Of the
    log itself nothing leaves this function. It may take as long as a GET and a reading, see
    `worker.kinetic.logs`, and the wait for a place before it.

    Args:
        ctx: the world.
        execution_uuid: of the failed run.
        rules: in their order.
        failed_at: when it failed, by the API; None when it does not tell. Where a deployment retries in
            place, one execution fails more than once: without the time nothing is remembered.

    Raises:
        GateClosed: nobody may be asked now. What the log says is worth waiting for then.
    """
    if not rules or ctx.logs is None:
        return None
    known, here = ctx.readings, tuple(rules)
    verdict = known.verdicts.get(execution_uuid)
    if verdict and failed_at and (verdict.failed_at, verdict.rules) == (failed_at, here):
        return verdict.found
    if known.rests:
        return None
    try:
        text = await known.read(ctx.logs, ctx.calls, execution_uuid)
    except GateClosed:
        raise
    except KineticError:
        await ctx.calls.pass_gate()
        return None
    if text is None:
        return None
    found = first_match(here, text)
    if failed_at and text:  # an empty one may not be written yet
        known.remember(execution_uuid, _Verdict(failed_at, here, found))
    return found
