"""What a run looks like on a screen: one table of figures, and the evidence when a law was broken."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.chaos.conductor import BACK_WITHIN_S, Outcome
from tests.chaos.judge import Law
from tests.chaos.tally import ENDS
from tests.chaos.world import World

MOST_STORIES = 5
MOST_LINES = 30


def figures(outcome: Outcome) -> Table:
    """Return the table of a run."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=False)
    grid.add_column("what")
    grid.add_column("figure", justify="right")
    grid.add_column("of which", overflow="fold")
    for what, figure, parts in _rows(outcome):
        grid.add_row(what, escape(figure), escape(parts))
    return grid


def _rows(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    record = outcome.record
    laws = Counter(violation.law for violation in outcome.violations)
    states = Counter(lineage["state"] for lineage in outcome.lineages)
    posts = record["requests"].get("retry", {})
    yield "executions", str(record["executions"]), f"{record['failures']} failed"
    yield "lineages", str(len(outcome.lineages)), _parts(states)
    held = Counter(each["workflow_name"] for each in outcome.lineages if each["state"] == "held")
    yield "  held", str(held.total()), _parts(held)
    yield "clones", str(record["clones"]), f"at most {record['max_attempts']} in a row"
    yield "duplicates", str(len(record["duplicates"])), ""
    yield "lost failures", str(laws[Law.LOST] + laws[Law.UNSETTLED]), ""
    yield "retry calls", str(sum(posts.values())), _parts(Counter(posts))
    yield "ambiguous calls", str(outcome.reasons.total()), _parts(outcome.reasons)
    for end in ENDS:
        yield f"  {end}", str(outcome.ends[end]), ""
    yield "faults", str(outcome.faults.total()), _parts(outcome.faults)
    for what, count in sorted((+outcome.did).items()):
        yield f"  {what}", str(count), ""
    slowest = max(outcome.recoveries, key=lambda each: each.seconds, default=None)
    if slowest:
        yield (
            "slowest recovery",
            f"{slowest.seconds:.1f} s",
            f"after {slowest.step}; {BACK_WITHIN_S:.0f} s allowed",
        )
    yield "settled in", f"{outcome.settled_in_s:.1f} s", "after the last fault"
    yield "wall time", f"{outcome.wall_s:.0f} s", ""
    yield "seed", str(outcome.seed), ""


def evidence(outcome: Outcome, world: World) -> str:
    """Return what was broken, and for each execution its chain at the simulator and its lineage's story."""
    screen = Console(width=140, record=True, file=io.StringIO(), highlight=False, markup=False)
    for violation in outcome.violations[:MOST_LINES]:
        screen.print(f"✗ {violation.law.value}: {violation.words}")
    if len(outcome.violations) > MOST_LINES:
        screen.print(f"… and {len(outcome.violations) - MOST_LINES} more")
    told: set[str] = set()
    for violation in outcome.violations:
        uuid = violation.execution_uuid
        if uuid and uuid not in told and len(told) < MOST_STORIES:
            told.add(uuid)
            screen.print(f"\n{uuid}")
            for line in _chain(outcome.record["all"], uuid):
                screen.print(line)
            story = world.processes.run("show", uuid, "--no-links")
            screen.print((story.stdout or story.stderr).rstrip())
    return screen.export_text()


def _chain(executions: list[dict[str, Any]], uuid: str) -> Iterator[str]:
    root = next((each["root"] for each in executions if each["execution_uuid"] == uuid), None)
    for each in executions:
        if root and each["root"] == root:
            parent = f", cloned from {each['parent']}" if each["parent"] else ""
            yield (
                f"  simulator: {each['execution_uuid']} of {each['workflow']!r}{parent}, created "
                f"{each['created_at']}, {each['status']} since {each['updated_at']}"
            )


def _parts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)
