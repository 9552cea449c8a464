"""How the plan of a redrive is shown, before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from worker.cli.output import clock, iso, name, rough
from worker.cli.redrive_view import MOST_CHARS, lineages, stops, terms
from worker.cli.redriving import Preview, Row
from worker.domain.redrive_plan import Plan

MOST_ROWS = 20


def preview_lines(found: Preview, plan: Plan, command: str) -> list[Any]:
    """Return what to print of a plan: rich markup and a table."""
    if not found.rows:
        return ["nothing to redrive: no lineage is meant"]
    said: list[Any] = [f"[bold]would redrive {lineages(found.total)}[/]", _rows(found.rows)]
    left_out = [row for row in found.rows if row.paused]
    if left_out:
        count = sum(row.count for row in left_out)
        said.append(f"[yellow]left out[/]   {count}, whose workflow is paused; they stay as they are")
    said += [f"how        {terms(plan)}", f"stops      {stops(plan)}", f"takes      {_takes(found, plan)}"]
    if found.skipped:
        which = "" if found.looked_at >= found.total else f" of the {found.looked_at} oldest"
        said.append(f"skipped    {sum(found.skipped.values())}{which} would be skipped as they are now:")
        said += [f"           {count}: {name(why, MOST_CHARS)}" for why, count in found.skipped.items()]
    said.append(
        "counts     pauses, the gate before the API and SUBMIT_RATE; not attempts, deadlines, quiet hours, "
        "breakers and budgets: a person said so"
    )
    said += _in_the_way(found)
    return [*said, f"do it      {name(command, 2000)}"]


def preview_object(found: Preview, plan: Plan, command: str) -> dict[str, Any]:
    """Return a plan as `--json` prints it."""
    return {
        "total": found.total,
        "chosen": plan.chosen,
        "groups": [
            {
                "workflow": row.workflow,
                "workflow_name": row.name,
                "state": row.state.value,
                "reason": row.reason,
                "count": row.count,
                "paused": row.paused or None,
            }
            for row in found.rows
        ],
        "canary": plan.canary,
        "rate_per_s": plan.rate,
        "in_flight": plan.in_flight,
        "stop_share": plan.stop_share,
        "takes_s": round(found.takes.total_seconds()),
        "ends_at": iso(found.now + found.takes),
        "looked_at": found.looked_at,
        "skipped": dict(found.skipped),
        "open_redrives": [each.plan.id for each in found.others],
        "command": command,
    }


def _rows(rows: Sequence[Row]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("lineages", "workflow", "state", "reason", ""):
        grid.add_column(title, justify="right" if title == "lineages" else "left")
    for row in rows[:MOST_ROWS]:
        note = f"paused: {name(row.paused, 80)}" if row.paused else ""
        style = "dim" if row.paused else None
        grid.add_row(str(row.count), name(row.name), row.state.value, name(row.reason), note, style=style)
    rest = rows[MOST_ROWS:]
    if rest:
        grid.add_row(str(sum(row.count for row in rest)), f"{len(rest)} groups more", "", "", "", style="dim")
    return grid


def _takes(found: Preview, plan: Plan) -> str:
    ends_at = clock(found.now + found.takes, found.now)
    run = "how long a run takes is not known"
    if found.typical is not None:
        run = f"a run takes about {rough(found.typical)}"
    said = f"{rough(found.takes)} at least, until {ends_at} UTC ({run})"
    at_the_rate = timedelta(seconds=found.total / plan.rate)
    if found.takes > 2 * at_the_rate and found.typical and found.takes > timedelta(minutes=1):
        said += f"; --in-flight is what it takes so long for, not --rate ({rough(at_the_rate)})"
    return said


def _in_the_way(found: Preview) -> list[str]:
    gate, said = found.gate, list[str]()
    if gate.halt:
        who = name(f"{gate.halt.by}: {gate.halt.why}", MOST_CHARS)
        said.append(f"[bold red]paused[/]     everything, by {who}: nothing is released before that ends")
    if gate.closed:
        then = "nothing is released before the API answers again"
        said.append(f"[bold red]gate[/]       {gate.closed}: {then}")
    then = "a lineage that both mean goes once, with the first that comes to it"
    said += [
        f"[yellow]also[/]       the redrive {each.plan.id} is {each.standing.status} "
        f"({name(each.plan.chosen, 200)}): {then}"
        for each in found.others
    ]
    return said
