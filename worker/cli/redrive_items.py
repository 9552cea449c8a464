"""The items of a redrive, one by one, wherever they are: among the results, under way, or pending."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.cli.output import iso
from worker.domain.redrive import Outcome
from worker.ledger import Ledger
from worker.ledger.redrive_records import Redrive
from worker.ledger.redrives import Redrives

UNDER_WAY, PENDING = "under_way", "pending"
DONE = tuple(each.value for each in Outcome)
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One item.

    Attributes:
        outcome: what became of it, `under_way` or `pending`.
        at: when that was known; when it was released; None for a pending one.
    """

    root: str
    outcome: str
    why: str
    execution: str
    at: datetime | None

    def as_object(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {
            "root": self.root,
            "outcome": self.outcome,
            "why": self.why or None,
            "execution": self.execution or None,
            "at": iso(self.at),
        }


async def entries(ledger: Ledger, one: Redrive, wanted: Collection[str]) -> AsyncIterator[Entry]:
    """Yield items page by page: results, the newest first, then what is under way, then what is pending."""
    redrives, redrive_id = Redrives(ledger), one.plan.id
    if set(wanted) & set(DONE):
        end = one.tally.done
        while end > 0:
            start = max(0, end - PAGE)
            for at, result in reversed(await redrives.results(redrive_id, start, end - start)):
                if result.outcome.value in wanted:
                    yield Entry(result.root, result.outcome.value, result.why, result.execution, at)
            end = start
    if UNDER_WAY in wanted:
        for item in sorted(one.flying.values(), key=lambda each: each.at):
            yield Entry(item.root, UNDER_WAY, "", "", item.at)
    start = 0
    while PENDING in wanted:
        page = await redrives.next(redrive_id, PAGE, start)
        for chosen in page:
            yield Entry(chosen.root, PENDING, "", "", None)
        start += len(page)
        if len(page) < PAGE:
            return
