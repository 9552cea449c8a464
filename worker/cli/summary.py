"""The last words of `up`: the states, some figures, and one whole story."""

from __future__ import annotations

from typing import Any

from worker.cli.output import rough
from worker.cli.status import lines, table
from worker.cli.story import tell
from worker.domain.lineage import Lineage, State
from worker.ledger.reports import Reports

MOST_READ = 2000
"""Recovered lineages looked at; a ledger in use may have a month of them."""


async def summarise(reports: Reports) -> list[Any]:
    """Return what to print, in order: rich markup and a table."""
    summary = await reports.summary()
    said: list[Any] = ["\n[bold]Summary[/]", table(summary), *lines(summary)[:1]]
    recovered: list[Lineage] = []
    async for lineage in reports.lineages((State.RECOVERED,)):
        recovered.append(lineage)
        if len(recovered) == MOST_READ:
            break
    said += figures(recovered)
    counters = ", ".join(
        f"{name.replace('_', ' ')} {count}" for name, count in summary.counters.items() if count
    )
    if counters:
        said.append(f"[dim]counted    {counters}[/]")
    if recovered:
        best = max(recovered, key=lambda each: len(each.attempts))
        said.append("\n[bold]The story of one[/] [dim](what `kinetic-retry show UUID` tells)[/]")
        said += tell(best, await reports.story(best), summary.now)
    return said


def figures(recovered: list[Lineage]) -> list[str]:
    """Return how many recovered, with how many clones and in what time; nothing when none did."""
    times = sorted(
        each.newest.ended_at - each.root_failed_at
        for each in recovered
        if each.attempts and each.newest.ended_at
    )
    if not times:
        return []
    clones = sum(len(each.attempts) for each in recovered)
    median = rough(times[len(times) // 2])
    return [f"recovered  {len(times)} with {clones} clones; median time to recovery {median}"]
