"""How redrives are shown: where one stands, and its items. What is only planned is in `redrive_plan`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from worker.cli.filters import Chosen
from worker.cli.output import clock, iso, name, rough
from worker.cli.redrive_items import Entry
from worker.cli.redrive_options import rate
from worker.domain.redrive import WINDOW, Phase, Status
from worker.domain.redrive_plan import Plan
from worker.domain.text import clean_text
from worker.ledger.redrive_records import Redrive

COLOURS = {
    Status.RUNNING: "cyan",
    Status.PAUSED: "yellow",
    Status.STOPPED: "bold red",
    Status.CANCELLED: "dim",
    Status.FINISHED: "green",
}
OUTCOME_COLOURS = {
    "recovered": "green",
    "failed": "red",
    "lost": "red",
    "skipped": "dim",
    "taken_over": "yellow",
}
WORDS = {
    "under_way": "under way",
    "failed": "failed again",
    "taken_over": "taken over",
    "lost": "came to nothing",
}
MOST_ROWS = 20
MOST_CHARS = 400


def as_object(one: Redrive) -> dict[str, Any]:
    """Return a redrive as `--json` prints it."""
    plan, standing = one.plan, one.standing
    return {
        "redrive": plan.id,
        "status": standing.status.value,
        "phase": standing.phase.value,
        "since": iso(standing.since),
        "said_by": standing.by or None,
        "why": standing.why or None,
        "started_at": iso(plan.started_at),
        "by": plan.by,
        "reason": plan.why,
        "chosen": plan.chosen,
        "total": plan.total,
        "counts": one.counts,
        "canary": plan.canary,
        "rate_per_s": plan.rate,
        "in_flight": plan.in_flight,
        "stop_share": plan.stop_share,
    }


def terms(plan: Plan) -> str:
    """Return how a redrive is to go, in words."""
    rest = f"{rate(plan.rate)} with {plan.in_flight} under way at most"
    if not plan.canary:
        return f"no canary; oldest first, {rest}"
    return f"a canary of {plan.canary}, of all workflows; then the rest, oldest first, {rest}"


def stops(plan: Plan) -> str:
    """Return when a redrive stops by itself, in words."""
    if plan.stop_share >= 1:
        return "never by itself"
    which = (
        f"of the canary, or of the newest {WINDOW} after it," if plan.canary else f"of the newest {WINDOW}"
    )
    return f"when more than {plan.stop_share:.0%} {which} failed again; what was not released stays as it was"


def started(one: Redrive) -> list[str]:
    """Return what is said of a redrive that was just begun."""
    return [
        f"[bold]redrive {one.plan.id}[/] is begun: {lineages(one.plan.total)}; {terms(one.plan)}",
        f"  kinetic-retry redrive watch {one.plan.id} shows how it goes; see also pause, resume and cancel",
    ]


def said(one: Redrive) -> list[str]:
    """Return where a redrive stands, in lines."""
    return [f"[bold]redrive {one.plan.id}[/] {status(one)}: {figures(one)}", f"  {_because(one)}"]


def status(one: Redrive) -> str:
    """Return where it stands, coloured."""
    standing = one.standing
    canary = " (canary)" if standing.phase is Phase.CANARY and standing.status is Status.RUNNING else ""
    return f"[{COLOURS[standing.status]}]{standing.status.value}{canary}[/]"


def figures(one: Redrive) -> str:
    """Return its counts in words, without those that are zero."""
    counts = {**one.counts}
    told = [f"{WORDS.get(what, what)} {count}" for what, count in counts.items() if count]
    return ", ".join(told)


def line(one: Redrive) -> str:
    """Return where it stands as plain text on a line."""
    standing, done = one.standing, one.tally.done
    stands = (
        f"{standing.status.value} ({standing.phase.value})"
        if not standing.status.is_over
        else standing.status.value
    )
    why = f"; {clean_text(standing.why, MOST_CHARS)}" if standing.status is not Status.RUNNING else ""
    return f"redrive {one.plan.id} {stands}: {done} of {one.plan.total} done; {figures(one)}{why}"


def table(found: Sequence[Redrive]) -> Any:
    """Return a table of redrives."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("redrive", "status", "begun", "of", "items", "by, and why"):
        grid.add_column(title)
    for each in found:
        begun = f"{each.plan.started_at:%Y-%m-%d %H:%M}"
        which = f"{each.plan.total}: {name(each.plan.chosen, 60)}"
        by = name(f"{each.plan.by}: {each.plan.why}", 100)
        grid.add_row(each.plan.id, status(each), begun, which, figures(each), by)
    return grid


def shown(one: Redrive, found: Sequence[Entry], limit: int) -> list[Any]:
    """Return a redrive with its items: rich markup and a table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    plan = one.plan
    head = [
        *said(one),
        f"  begun {plan.started_at:%Y-%m-%d %H:%M:%S} UTC by {name(f'{plan.by}: {plan.why}', MOST_CHARS)}; "
        f"{name(plan.chosen, MOST_CHARS)}",
    ]
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("execution", "outcome", "at", "why"):
        grid.add_column(title, no_wrap=title == "execution")
    now = max((each.at for each in found if each.at), default=one.standing.since)
    for each in found:
        outcome = (
            f"[{OUTCOME_COLOURS.get(each.outcome, 'default')}]{WORDS.get(each.outcome, each.outcome)}[/]"
        )
        grid.add_row(
            name(each.root, 200), outcome, clock(each.at, now) if each.at else "", name(each.why, MOST_CHARS)
        )
    more = (
        [f"[dim]the first {limit}; --limit, --outcome, or --json for all[/]"] if len(found) == limit else []
    )
    return [*head, grid, *more] if found else [*head, "  no such item"]


def in_words(chosen: Chosen) -> str:
    """Return which lineages a filter means, in words."""
    said = ["/".join(state.value for state in chosen.states)]
    said += [f"workflow {each}" for each in chosen.workflows] + [f"reason {each}" for each in chosen.reasons]
    least, most = chosen.attempts
    if least is not None or most is not None:
        said.append(f"attempts {'' if least is None else least}-{'' if most is None else most}")
    for word, moment in (("since", chosen.since), ("until", chosen.until)):
        if moment is not None:
            said.append(
                f"{word} {rough(moment) + ' before' if isinstance(moment, timedelta) else iso(moment)}"
            )
    return clean_text(", ".join(said), MOST_CHARS)


def _because(one: Redrive) -> str:
    standing = one.standing
    who = f"by {standing.by}: {standing.why}" if standing.by else standing.why
    then = {
        Status.STOPPED: "; what is pending stays as it was. Mended? kinetic-retry redrive resume "
        f"{one.plan.id} tries a new canary",
        Status.PAUSED: f"; kinetic-retry redrive resume {one.plan.id} goes on",
        Status.CANCELLED: "; what is pending stays as it was",
    }.get(standing.status, "")
    return f"since {standing.since:%H:%M:%S} UTC, {name(who, MOST_CHARS)}{then}"


def lineages(count: int) -> str:
    """Return a number of lineages in words."""
    return f"{count} lineage{'' if count == 1 else 's'}"
