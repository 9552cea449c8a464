"""Whose clone an unknown failure may be: the question that keeps one chain from becoming two lineages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from worker.domain.executions import Execution
from worker.domain.lineage import Lineage
from worker.domain.transitions import Hold
from worker.engine.context import CLOCK_MARGIN, Context
from worker.ledger.clock import from_ms


@dataclass(frozen=True, slots=True)
class Suspects:
    """Lineages of which an unknown failure may be the clone.

    Attributes:
        in_doubt: their calls are being settled; the failure waits for that.
        held: nobody could tell, and a person decides. To take the failure for a new root would begin
            the count of attempts anew, for ever; so it is held as well.
    """

    in_doubt: list[Lineage]
    held: list[Lineage]
    skew: timedelta

    @classmethod
    async def of(cls, ctx: Context, unknown: Sequence[Execution]) -> Suspects:
        """Read them; only lineages held since the oldest of the unknown was created can have made it."""
        dates = [each.created_at - ctx.calls.skew for each in unknown if each.created_at]
        since = min(dates) - CLOCK_MARGIN if len(dates) == len(unknown) else from_ms(0)
        return cls(await ctx.ledger.in_doubt(), await ctx.ledger.held_since(since), ctx.calls.skew)

    def still_in_doubt(self, execution: Execution) -> bool:
        """Whether it may be the clone of a call that is being settled."""
        return any(each.may_have_made(execution, self.skew, CLOCK_MARGIN) for each in self.in_doubt)

    def hold(self, execution: Execution) -> Hold | None:
        """Return why it must be held, if it may be the clone of a held lineage."""
        for each in self.held:
            if each.may_have_made(execution, self.skew, CLOCK_MARGIN):
                detail = f"it may be the clone of the held lineage {each.root}; decide that one first"
                return Hold("may_be_a_clone", detail)
        return None
