"""Whether the next clone of a workflow may go now, by its breaker and all limits, and if not, why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.domain import breaker as breakers
from worker.domain import budget
from worker.domain.breaker import Breaker, Mode, Rule, Standing
from worker.domain.budget import PACE_WINDOW, Caps, Limit, Limits, Usage
from worker.domain.health import Run, tally
from worker.domain.policy import Climate, Policy


@dataclass(frozen=True, slots=True)
class View:
    """What is known of one workflow at one moment: everything that a decision about its clones rests on.

    Attributes:
        breaker: as it is stored.
        judged: as it should be by `runs`; differs from `breaker` when it has to be stored anew.
        standing: what it says.
        usage: what is counted.
        caps: how far each count of `usage` may go.
    """

    breaker: Breaker
    judged: Breaker
    standing: Standing
    usage: Usage
    caps: Caps

    @property
    def objection(self) -> Limit | None:
        """The first limit that one more clone would break; None when it may go."""
        return budget.objection(self.caps, self.usage)

    @property
    def free(self) -> int:
        """How many clones may go now, as far as anything limits them; a large number when nothing does."""
        return budget.free(self.caps, self.usage)


def view(
    breaker: Breaker,
    runs: Sequence[Run],
    usage: Usage,
    policy: Policy,
    limits: Limits,
    now: datetime,
    failed_at: datetime | None = None,
) -> View:
    """Return what is known of a workflow, put together for a run of it that failed at `failed_at`."""
    judged = breakers.judge(breaker, runs, now, policy.breaker)
    standing = breakers.standing(judged, runs, now, policy.breaker, failed_at)
    caps = budget.caps(policy.limits, limits, usage, standing.places)
    return View(breaker, judged, standing, usage, caps)


def climate(seen: View, runs: Sequence[Run], now: datetime, rule: Rule, struck_since: datetime) -> Climate:
    """Return how the workflow does otherwise, for one that failed the same way since `struck_since`."""
    if seen.judged.mode is not Mode.CLOSED and seen.standing.mode is not Mode.CLOSED:
        return Climate.TROUBLED
    since = now - rule.memory
    others_run = tally(runs, since).successes > 0
    if struck_since < now and others_run and not tally(runs, struck_since).successes:
        return Climate.DOUBTFUL
    return Climate.HEALTHY if breakers.healthy(runs, since, rule) else Climate.UNKNOWN


def in_words(limit: Limit, seen: View, limits: Limits) -> str:
    """Return why a clone has to wait, with the figures."""
    usage, caps = seen.usage, seen.caps
    hours = f"{limits.window.total_seconds() / 3600:g} h"
    match limit:
        case Limit.WORKFLOW_FAILING:
            if seen.standing.mode is Mode.CLOSING:
                return f"the workflow is being tried: {usage.in_flight} of {caps.places} clones are in flight"
            canary = seen.standing.next_canary_at
            when = f"; one clone tries it at {canary:%H:%M:%S} UTC or later" if canary else ""
            return f"the workflow fails: {seen.standing.detail}{when}"
        case Limit.WORKFLOW_IN_FLIGHT:
            return f"{usage.in_flight} of {caps.in_flight} clones of the workflow are in flight"
        case Limit.IN_FLIGHT:
            return f"{usage.all_in_flight} of {caps.all_in_flight} clones are in flight"
        case Limit.WORKFLOW_BUDGET:
            return f"{usage.made} of {caps.made} clones for {usage.runs} runs of the workflow in {hours} are made"
        case Limit.BUDGET:
            return f"{usage.all_made} of {caps.all_made} clones for {usage.all_runs} runs in {hours} are made"
        case Limit.PACE:
            minutes = PACE_WINDOW.total_seconds() / 60
            return (
                f"{usage.made_lately} of {caps.made_lately} clones were made in the last {minutes:g} minutes"
            )


def choose(waiting: Iterable[tuple[str, datetime]], views: Mapping[str, View], most: int) -> list[int]:
    """Return which of those that wait may go now: whoever failed first, as far as their workflows have room.

    Args:
        waiting: the workflow and the time of failure of each.
        views: of every workflow among them.
        most: how many at most.

    Returns:
        positions in `waiting`, in the order in which they may go.
    """
    usage = {workflow: seen.usage for workflow, seen in views.items()}
    queue = sorted(enumerate(waiting), key=lambda each: (each[1][1], each[0]))
    chosen: list[int] = []
    for position, (workflow, _) in queue:
        if len(chosen) >= most:
            break
        if budget.objection(views[workflow].caps, usage[workflow]) is None:
            chosen.append(position)
            usage = {name: budget.one_more(each, mine=name == workflow) for name, each in usage.items()}
    return chosen
