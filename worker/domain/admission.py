"""Whether the next clone of a workflow may go now, by its breaker and all limits, and if not, why. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import heapify, heappop, heappush

from worker.domain import breaker as breakers
from worker.domain import budget
from worker.domain.breaker import Breaker, Forced, Mode, Rule, Standing
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
        limit = budget.objection(self.caps, self.usage)
        paused = limit is Limit.WORKFLOW_FAILING and self.judged.forced is Forced.OPEN
        return Limit.WORKFLOW_PAUSED if paused else limit

    @property
    def by_order(self) -> View:
        """The same for a clone that a person wants now: only a pause, and what is in flight, hold it up."""
        paused = self.judged.forced is Forced.OPEN
        free = replace(
            self.caps, made=None, all_made=None, made_lately=None, places=self.caps.places if paused else None
        )
        return replace(self, caps=free)

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
    *,
    now: datetime,
    failed_at: datetime | None = None,
    known_until: datetime | None = None,
) -> View:
    """Return what is known of a workflow, put together for a run of it that failed at `failed_at`.

    None for those that wait. See `breaker.judge` for `known_until`.
    """
    judged = breakers.judge(breaker, runs, now, policy.breaker, known_until)
    standing = breakers.standing(judged, runs, now, policy.breaker, failed_at)
    caps = budget.caps(policy.limits, limits, usage, standing.places, has_waited=failed_at is None)
    return View(breaker, judged, standing, usage, caps)


def climate(
    seen: View, runs: Sequence[Run], now: datetime, rule: Rule, struck_since: datetime | None = None
) -> Climate:
    """Return how the workflow does otherwise, for a failure of it.

    Args:
        seen: for the time of that failure.
        runs: that ended lately.
        now: by the Redis server's clock.
        rule: of its breaker.
        struck_since: since when the lineage fails in this same way; None when it is the first time.
    """
    others = _others(runs, struck_since) if struck_since else Others()
    if seen.standing.mode is not Mode.CLOSED:
        return (
            Climate.UNKNOWN if others.completed >= breakers.HEALTHY_AFTER and others.do else Climate.TROUBLED
        )
    if struck_since and not others.do:
        return Climate.DOUBTFUL
    since = now - rule.memory
    return Climate.HEALTHY if breakers.healthy(runs, since) else Climate.UNKNOWN


@dataclass(frozen=True, slots=True)
class Others:
    """How other runs of a workflow ended since a lineage fails in the same way.

    Clones that failed say nothing: they may be the same few inputs again and again.
    """

    completed: int = 0
    failed: int = 0

    @property
    def do(self) -> bool:
        """Whether they show that the workflow works: at least two completed for each that failed."""
        return self.completed > 0 and self.completed >= 2 * self.failed


def _others(runs: Sequence[Run], since: datetime) -> Others:
    heard = tally(runs, since)
    originals_failed = heard.failures - heard.clones_failed
    return Others(heard.successes, max(0, originals_failed - 1))  # one of them is its own


def in_words(limit: Limit, seen: View, limits: Limits) -> str:
    """Return why a clone has to wait, with the figures."""
    usage, caps = seen.usage, seen.caps
    length = limits.window.total_seconds() / 3600
    hours = f"{length:g} h" if length.is_integer() else f"{length * 60:g} minutes"
    minutes = f"{PACE_WINDOW.total_seconds() / 60:g} minutes"
    flying = "are in flight"
    made = f"clones were made in {hours}, in which"
    words = {
        Limit.WORKFLOW_PAUSED: _waits_for(seen),
        Limit.WORKFLOW_FAILING: _waits_for(seen),
        Limit.WORKFLOW_IN_FLIGHT: f"{usage.in_flight} of {caps.in_flight} clones of the workflow {flying}",
        Limit.IN_FLIGHT: f"{usage.all_in_flight} of {caps.all_in_flight} clones {flying}",
        Limit.WORKFLOW_BUDGET: f"{usage.made} of {caps.made} {made} the workflow had {usage.runs} runs",
        Limit.BUDGET: f"{usage.all_made} of {caps.all_made} {made} all workflows had {usage.all_runs} runs",
        Limit.PACE: f"{usage.made_lately} of {caps.made_lately} clones were made in the last {minutes}",
    }
    return words[limit]


def _waits_for(seen: View) -> str:
    """Return what a lineage waits for whose workflow's breaker is not closed."""
    if seen.standing.mode is Mode.CLOSING:
        places, flying = seen.caps.places, seen.usage.in_flight
        return f"the workflow works again and is let go by steps: {flying} of {places} clones are in flight"
    if seen.judged.forced:
        until = seen.judged.forced_until
        end = f", until {until:%Y-%m-%d %H:%M:%S} UTC" if until else ""
        return f"a person holds the workflow back: {seen.standing.detail}{end}"
    if seen.caps.places and seen.usage.trying >= seen.caps.places:
        return f"the workflow fails: {seen.standing.detail}; a clone is trying it now"
    canary = seen.standing.next_canary_at
    when = f"; one clone tries it at {canary:%H:%M:%S} UTC or later" if canary else ""
    return f"the workflow fails: {seen.standing.detail}{when}"


def choose(waiting: Sequence[tuple[str, datetime]], views: Mapping[str, View], most: int) -> list[int]:
    """Return which of those that wait may go now, as far as their workflows have room.

    The workflows take turns, so that one with thousands does not hold up one with a single failure; of each
    goes first what failed first.

    Args:
        waiting: the workflow and the time of failure of each.
        views: of every workflow among them.
        most: how many at most.

    Returns:
        positions in `waiting`, in the order in which they may go.
    """
    queues: defaultdict[str, deque[int]] = defaultdict(deque)
    for position in sorted(range(len(waiting)), key=lambda each: (waiting[each][1], each)):
        queues[waiting[position][0]].append(position)
    turns = [(0, waiting[queue[0]][1], name) for name, queue in queues.items()]
    heapify(turns)
    chosen: list[int] = []
    while turns and len(chosen) < most:
        had, _, name = heappop(turns)
        seen = views[name]
        if budget.objection(seen.caps, budget.more(seen.usage, had, len(chosen))) is None:
            chosen.append(queues[name].popleft())
            if queues[name]:
                heappush(turns, (had + 1, waiting[queues[name][0]][1], name))
    return chosen
