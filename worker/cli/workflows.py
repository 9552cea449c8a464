"""What is known of workflows now, for people: breakers, limits and who waits.

The settings that a command finds may not be those of the workers: what follows from settings is the best
guess then. What is stored (a breaker's mode, who forced it, the counts) is the same for everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from worker.cli.output import ago, clock, iso, name, rough
from worker.domain import admission, budget
from worker.domain.admission import View
from worker.domain.breaker import Forced, Mode
from worker.domain.budget import PACE_WINDOW, Limit, Limits, Usage, WorkflowLimits
from worker.domain.lineage import Lineage
from worker.domain.policy import PolicyBook
from worker.ledger.workflow_reports import Named, Place, WorkflowReport

if TYPE_CHECKING:
    from config.settings import Settings

NEARLY = 0.8
"""The share of a limit from which on it is worth saying how much of it is used."""
MOST_SHOWN = 10
_OF_BREAKER = (Limit.WORKFLOW_FAILING, Limit.WORKFLOW_PAUSED)
WAITING_FOR = frozenset(limit.value for limit in Limit)
"""The reasons of lineages that are due and wait for room."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides about clones, as far as this command knows."""

    policies: PolicyBook
    limits: Limits

    @classmethod
    def of(cls, config: Settings) -> Rules:
        """Return the rules of these settings."""
        return cls(config.policies, config.limits)

    def view(self, report: WorkflowReport, now: datetime, failed_at: datetime | None = None) -> View:
        """Return what follows for a run of the workflow that failed then; None for the failures that wait."""
        known, whose = report.known, report.workflow
        policy, _ = self.policies.for_workflow(whose.uuid, whose.name)
        return admission.view(
            known.breaker,
            known.runs,
            known.usage,
            policy,
            self.limits,
            now=now,
            failed_at=failed_at,
            known_until=known.surveyed_at,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """How one workflow stands.

    Attributes:
        seen: what follows from what is known of it.
        waiting: lineages that wait for it.
        why: what the next clone of it waits for, with its figures; "" when it may go.
    """

    workflow: Named
    seen: View
    waiting: int
    why: str


def stand(
    reports: Iterable[WorkflowReport], rules: Rules, now: datetime, lineage: Lineage | None = None
) -> list[Standing]:
    """Return how workflows stand, the ones waited for most first; to one lineage where that is given."""
    found = []
    for report in sorted(reports, key=lambda each: (-each.waiting, each.workflow.name, each.workflow.key)):
        seen = rules.view(report, now, lineage.last_failed_at if lineage else None)
        if lineage and lineage.is_ordered:
            seen = seen.by_order
        why = admission.in_words(seen.objection, seen, rules.limits) if seen.objection else ""
        found.append(Standing(report.workflow, seen, report.waiting, why))
    return found


def title(workflow: Named) -> str:
    """Return what a workflow is called, safe for a terminal."""
    return name(workflow.name) or name(workflow.uuid or workflow.key, 200)


def sentence(standing: Standing, now: datetime) -> str:
    """Return how a workflow stands, as rich markup: what its breaker does and why, and who waits."""
    seen = standing.seen
    parts = [_breaker_in_words(seen, now)]
    held_by_breaker = seen.objection in _OF_BREAKER and seen.standing.mode is Mode.OPEN
    if standing.why and not held_by_breaker:
        parts.append(name(standing.why, 300))
    if standing.waiting:
        parts.append(f"{standing.waiting} wait{'s' if standing.waiting == 1 else ''}")
    return "; ".join(part for part in parts if part) or "closed"


def _breaker_in_words(seen: View, now: datetime) -> str:
    breaker, standing = seen.judged, seen.standing
    since = f" since {clock(breaker.since, now)}" if breaker.since else ""
    detail = name(standing.detail, 300)
    if breaker.forced:
        colour = "bold red" if breaker.forced is Forced.OPEN else "yellow"
        until = f", until {clock(breaker.forced_until, now)}" if breaker.forced_until else ""
        return f"[{colour}]forced {breaker.forced.value}[/]{since}{until} by {detail}"
    if standing.mode is Mode.CLOSING:
        return f"[yellow]closing[/]{since}: {detail}"
    if standing.mode is Mode.CLOSED:
        return ""
    canary_at = standing.next_canary_at
    if seen.usage.in_flight:
        canary = f"; {_clones(seen.usage.in_flight)} in flight"
    elif canary_at and canary_at > now:
        canary = f"; one clone tries it at {clock(canary_at, now)} ({ago(canary_at, now)}) or later"
    else:
        canary = "; one clone may try it now"
    return f"[bold red]open[/]{since}: {detail}{canary}"


def status_lines(standings: Sequence[Standing], usage: Usage, rules: Rules, now: datetime) -> list[str]:
    """Return the block "workflows" of `status`; empty when there is nothing to say."""
    lines = [f"  [bold]{title(each.workflow)}[/]: {sentence(each, now)}" for each in standings[:MOST_SHOWN]]
    if len(standings) > MOST_SHOWN:
        lines.append(f"  [dim]and {len(standings) - MOST_SHOWN} more: kinetic-retry breaker list[/]")
    lines += [f"  [yellow]{words}[/]" for words in _nearly_used(usage, rules.limits)]
    return ["workflows", *lines] if lines else []


def _nearly_used(usage: Usage, limits: Limits) -> list[str]:
    caps = budget.caps(WorkflowLimits(), limits, usage, None)
    counts = (
        ("budget", usage.all_made, caps.all_made, f" in {rough(limits.window)}, for {usage.all_runs} runs"),
        ("pace", usage.made_lately, caps.made_lately, f" in {rough(PACE_WINDOW)}"),
        ("in flight", usage.all_in_flight, caps.all_in_flight, " at once"),
    )
    return [
        f"{what}: {used} of {_clones(most)}{over}"
        for what, used, most, over in counts
        if most is not None and used >= NEARLY * most
    ]


def lineage_lines(lineage: Lineage, standing: Standing, place: Place, limits: Limits) -> list[str]:
    """Return what a scheduled lineage's workflow says now, as the last lines of its story."""
    waits = lineage.reason in WAITING_FOR or place.before is not None
    if not waits and not standing.why:
        return []
    if standing.why and waits:
        said = "still so" if standing.why == lineage.detail else name(standing.why, 300)
    elif standing.why:
        said = f"{name(standing.why, 300)}; if that is so when it is due, it waits"
    else:
        said = "there is room for it: it goes within seconds"
    lines = [f"    now: {said}"]
    if place.before is not None:
        before = f", {place.before} of them before it" if place.before else ", it is the first of them"
        lines.append(f"    [dim]{place.of} wait{'s' if place.of == 1 else ''} for this workflow{before}[/]")
    return [*lines, f"    [dim]{_figures(standing.seen, limits)}[/]"]


def _figures(seen: View, limits: Limits) -> str:
    usage, caps = seen.usage, seen.caps
    window = rough(limits.window)
    return (
        f"clones in {window}: {_of(usage.made, caps.made)} of the workflow, "
        f"{_of(usage.all_made, caps.all_made)} of all; in {rough(PACE_WINDOW)}: "
        f"{_of(usage.made_lately, caps.made_lately)}; in flight: {usage.in_flight} of the workflow, "
        f"{_of(usage.all_in_flight, caps.all_in_flight)} of all"
    )


def _of(used: int, most: int | None) -> str:
    return str(used) if most is None else f"{used}/{most}"


def _clones(count: int) -> str:
    return f"{count} clone{'' if count == 1 else 's'}"


def as_object(standing: Standing) -> dict[str, Any]:
    """Return how a workflow stands as `--json` prints it; `most_…` is None where nothing limits a count."""
    workflow, seen = standing.workflow, standing.seen
    usage, caps = seen.usage, seen.caps
    return {
        "workflow": workflow.key,
        "workflow_uuid": workflow.uuid or None,
        "workflow_name": workflow.name or None,
        "breaker": {
            "mode": seen.standing.mode.value,
            "since": iso(seen.judged.since),
            "forced": seen.judged.forced.value if seen.judged.forced else None,
            "forced_until": iso(seen.judged.forced_until),
            "detail": seen.standing.detail or None,
            "next_canary_at": iso(seen.standing.next_canary_at),
            "places": seen.standing.places,
        },
        "waiting": standing.waiting,
        "waits_for": seen.objection.value if seen.objection else None,
        "detail": standing.why or None,
        "runs": usage.runs,
        "made": usage.made,
        "most_made": caps.made,
        "in_flight": usage.in_flight,
        "most_in_flight": caps.in_flight,
    }


def usage_object(usage: Usage, limits: Limits) -> dict[str, Any]:
    """Return what all workflows use of their limits, as `--json` prints it."""
    caps = budget.caps(WorkflowLimits(), limits, usage, None)
    return {
        "window_s": limits.window.total_seconds(),
        "runs": usage.all_runs,
        "made": usage.all_made,
        "most_made": caps.all_made,
        "pace_window_s": PACE_WINDOW / timedelta(seconds=1),
        "made_lately": usage.made_lately,
        "most_made_lately": caps.made_lately,
        "in_flight": usage.all_in_flight,
        "most_in_flight": caps.all_in_flight,
    }
