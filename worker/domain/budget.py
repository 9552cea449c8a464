"""How many clones may be made and be in flight: shares of what the platform does anyhow. Pure.

Retries must never multiply the load of a platform that is in trouble already. So clones are counted against
the runs that
people and programs started: over hours (the budget), over minutes (the pace) and at once (in flight). The
counting and the comparison are atomic in the ledger; what the limits are is worked out here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

PACE_WINDOW = timedelta(minutes=5)
UNLIMITED = 1_000_000_000
TROUBLED_SHARE = 0.9
"""Of the pace, for what waited and for workflows in trouble: they must not hold up the single failures of
others."""


class Limit(StrEnum):
    """Which limit holds a clone up; the reason on the lineage's record."""

    WORKFLOW_PAUSED = "workflow_paused"
    WORKFLOW_FAILING = "workflow_failing"
    WORKFLOW_IN_FLIGHT = "workflow_in_flight"
    IN_FLIGHT = "in_flight"
    WORKFLOW_BUDGET = "workflow_budget"
    BUDGET = "budget"
    PACE = "pace"


@dataclass(frozen=True, slots=True)
class WorkflowLimits:
    """Limits of one workflow.

    Attributes:
        share: clones per run of the workflow, over the budget's window; 0 = no limit.
        floor: clones that every workflow may make in the window, whatever its share and all others do.
        in_flight: clones at once; 0 = no limit.
    """

    share: float = 2.0
    floor: int = 10
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of all workflows together.

    Attributes:
        share: clones per run, over the window; 0 = no limit.
        floor: clones that may be made in the window at least.
        window: over which runs and clones are counted.
        pace: clones in 5 minutes, as a share of the most runs that ended in any 5 minutes of the window; 0 =
            no limit.
        pace_floor: clones in 5 minutes at least.
        in_flight: clones at once; 0 = no limit.
    """

    share: float = 1.0
    floor: int = 100
    window: timedelta = timedelta(hours=6)
    pace: float = 1.0
    pace_floor: int = 20
    in_flight: int = 0


USUAL_LIMITS = WorkflowLimits()
PLATFORM_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Usage:
    """What is known of runs and clones.

    Attributes:
        runs, all_runs: that ended within the window, of the workflow and of all. Clones are not among them.
        busiest: the most of them in any 5 minutes, of all workflows.
        made, all_made: clones within the window.
        made_lately: clones of all workflows within 5 minutes.
        in_flight, all_in_flight: clones that have not ended, calls in doubt included.
        trying: of the workflow's clones in flight, those that have been so for no longer than its breaker
            waits for one: one that hangs must not keep the next canary back for a day.
    """

    runs: int = 0
    all_runs: int = 0
    busiest: int = 0
    made: int = 0
    all_made: int = 0
    made_lately: int = 0
    in_flight: int = 0
    all_in_flight: int = 0
    trying: int = 0


@dataclass(frozen=True, slots=True)
class Caps:
    """How far each count of `Usage` may go; None = as far as it likes.

    Attributes:
        floor: clones of the workflow up to which `made` and `all_made` do not count.
    """

    in_flight: int | None
    all_in_flight: int | None
    made: int | None
    all_made: int | None
    made_lately: int | None
    floor: int
    places: int | None = None


def caps(
    mine: WorkflowLimits, all_of_us: Limits, usage: Usage, places: int | None, *, has_waited: bool = False
) -> Caps:
    """Return the caps that follow from what is known of runs.

    Args:
        mine: of the workflow.
        all_of_us: of all workflows.
        usage: what is known.
        places: clones that the workflow's breaker lets be in flight; None for any number.
        has_waited: whether it is for one that waited: those leave some of the pace to all others.
    """
    pace = None
    if all_of_us.pace:
        pace = max(all_of_us.pace_floor, math.ceil(all_of_us.pace * usage.busiest))
        if places is not None or has_waited:
            pace = math.ceil(pace * TROUBLED_SHARE)
    return Caps(
        in_flight=mine.in_flight or None,
        all_in_flight=all_of_us.in_flight or None,
        made=max(mine.floor, math.floor(mine.share * usage.runs)) if mine.share else None,
        all_made=max(all_of_us.floor, math.floor(all_of_us.share * usage.all_runs))
        if all_of_us.share
        else None,
        made_lately=pace,
        floor=mine.floor,
        places=places,
    )


def objection(cap: Caps, usage: Usage) -> Limit | None:
    """Return the first limit that one more clone of the workflow would break; None when it may go.

    The order is from the most particular to the most general, so that people read the closest reason.
    """
    return next((limit for limit, left in _checks(cap, usage) if left <= 0), None)


def free(cap: Caps, usage: Usage) -> int:
    """Return how many clones more may go by these caps; `UNLIMITED` when nothing limits them."""
    return max(0, min((left for _, left in _checks(cap, usage)), default=UNLIMITED))


def more(usage: Usage, of_mine: int, of_all: int) -> Usage:
    """Return the usage after so many clones more, of which so many are of this workflow."""
    return replace(
        usage,
        made=usage.made + of_mine,
        in_flight=usage.in_flight + of_mine,
        trying=usage.trying + of_mine,
        all_made=usage.all_made + of_all,
        made_lately=usage.made_lately + of_all,
        all_in_flight=usage.all_in_flight + of_all,
    )


def _checks(cap: Caps, usage: Usage) -> list[tuple[Limit, int]]:
    """Return how many clones more each limit allows; below the workflow's floor no budget counts."""
    below_floor = cap.floor - usage.made
    checks = (
        (Limit.WORKFLOW_FAILING, usage.trying, cap.places, 0),
        (Limit.WORKFLOW_IN_FLIGHT, usage.in_flight, cap.in_flight, 0),
        (Limit.IN_FLIGHT, usage.all_in_flight, cap.all_in_flight, 0),
        (Limit.WORKFLOW_BUDGET, usage.made, cap.made, below_floor),
        (Limit.BUDGET, usage.all_made, cap.all_made, below_floor),
        (Limit.PACE, usage.made_lately, cap.made_lately, 0),
    )
    return [(limit, max(at_least, most - used)) for limit, used, most, at_least in checks if most is not None]
