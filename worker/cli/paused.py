"""What is said of pauses: of everything, and of single workflows.

A workflow is paused while its breaker is forced open by a person, whichever command did it. What has run out
is over, whether or not a worker has noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from worker.cli.output import ago, clock, iso, name
from worker.cli.workflows import Standing, title
from worker.domain.breaker import Breaker, Forced
from worker.ledger.gate import Halt

LOUD = "[bold white on red]"
MOST_SAID = 600


def is_paused(breaker: Breaker, now: datetime) -> bool:
    """Return whether a person lets no clone of a workflow leave."""
    is_over = breaker.forced_until is not None and breaker.forced_until <= now
    return breaker.forced is Forced.OPEN and not is_over


def paused_workflows(breakers: Mapping[str, Breaker], now: datetime) -> dict[str, Breaker]:
    """Return the breakers of the workflows that are paused."""
    return {key: each for key, each in breakers.items() if is_paused(each, now)}


def lines(halt: Halt | None, standings: Iterable[Standing], now: datetime) -> list[str]:
    """Return what `status` says first; empty when nothing is paused."""
    said = []
    if halt:
        said += [
            f"{LOUD} everything is paused [/] {_since(halt.since, now)} by {_said(halt)}",
            f"  {_until(halt.until, now)}: no retry call leaves; failures are found and clones are watched",
        ]
    for each in standings:
        breaker = each.seen.judged
        if is_paused(breaker, now):
            waiting = f"; {each.waiting} wait{'s' if each.waiting == 1 else ''}" if each.waiting else ""
            said += [
                f"{LOUD} {title(each.workflow)} is paused [/] {_since(breaker.since, now)} by "
                f"{name(breaker.detail, MOST_SAID)}",
                f"  {_until(breaker.forced_until, now)}{waiting}",
            ]
    return said


def sentence(halt: Halt, now: datetime) -> str:
    """Return the same of a pause of everything for people who look at something else, as rich markup."""
    when = f"{_since(halt.since, now)}, {_until(halt.until, now)}"
    return f"[bold red]everything is paused[/] {when}, by {_said(halt)}"


def halt_object(halt: Halt | None) -> dict[str, Any] | None:
    """Return a pause of everything as `--json` prints it."""
    if halt is None:
        return None
    return {"by": halt.by, "why": halt.why, "since": iso(halt.since), "until": iso(halt.until)}


def workflow_objects(breakers: Mapping[str, Breaker], now: datetime) -> list[dict[str, Any]]:
    """Return the paused workflows as `--json` prints them."""
    return [
        {
            "workflow": key,
            "workflow_uuid": each.workflow_uuid or None,
            "workflow_name": each.workflow_name or None,
            "detail": each.detail or None,
            "since": iso(each.since),
            "until": iso(each.forced_until),
        }
        for key, each in paused_workflows(breakers, now).items()
    ]


def ends(until: datetime | None, now: datetime) -> str:
    """Return when a pause ends, in words that follow "it goes"."""
    return f"at {clock(until, now)} ({ago(until, now)})" if until else "when someone resumes"


def _said(halt: Halt) -> str:
    return name(f"{halt.by}: {halt.why}", MOST_SAID)


def _since(moment: datetime | None, now: datetime) -> str:
    return f"since {clock(moment, now)} ({ago(moment, now)})" if moment else ""


def _until(moment: datetime | None, now: datetime) -> str:
    return f"until {clock(moment, now)} ({ago(moment, now)})" if moment else "until someone resumes"
