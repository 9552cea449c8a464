"""Ask a failed run's log what is known of such failures, by the rules of the policy file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from worker.domain.executions import Execution
from worker.domain.logs import LogRule, first_match
from worker.kinetic import KineticError


class Logs(Protocol):
    """Where logs come from; `worker.kinetic.logs.LogReader` is one."""

    async def tail(self, execution: Execution) -> str | None:
        """Return the end of an execution's log; None when there is none to be had. Never raises."""


class Executions(Protocol):
    """Where executions come from: the API behind the gate."""

    async def get(self, execution_uuid: str) -> Execution:
        """Return an execution; raises `KineticError`."""


class World(Protocol):
    """The part of a `Context` that is needed here."""

    @property
    def logs(self) -> Logs | None:
        """None where logs are not read."""

    @property
    def calls(self) -> Executions:
        """See `Executions`."""


async def read_rules(ctx: World, execution_uuid: str, rules: Sequence[LogRule]) -> LogRule | None:
    """Return the first rule that a failed execution's log matches; None when none does or nobody can tell.

    A log that cannot be read decides nothing: the failure is then treated as if there were no rules. Of the
    log itself nothing leaves this function. It may take as long as a GET and a reading, see
    `worker.kinetic.logs`.
    """
    if not rules or ctx.logs is None:
        return None
    try:
        execution = await ctx.calls.get(execution_uuid)
    except KineticError:
        return None  # the gate has heard of it, and the retry call will meet the same
    text = await ctx.logs.tail(execution)
    return None if text is None else first_match(rules, text)
