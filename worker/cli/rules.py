"""What a policy and the limits of all workflows say, in plain words: for `policy explain`."""

from __future__ import annotations

from datetime import time, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from worker.cli.output import name, rough
from worker.domain.budget import Limits, WorkflowLimits
from worker.domain.policy import Policy

if TYPE_CHECKING:
    from config.settings import Settings

MOST_LOG_RULES = 8


class Line(NamedTuple):
    """One rule: what it is called and what it says, safe for a terminal."""

    called: str
    says: str


def in_words(policy: Policy, settings: Settings) -> list[Line]:
    """Return a line for each rule, those that are switched off included."""
    return [
        Line("prompt", _prompt(policy)),
        Line("strikes", _strikes(policy)),
        Line("breaker", _breaker(policy)),
        Line("budget", _budget(policy.limits, settings.limits)),
        Line("pace", _pace(settings.limits)),
        Line("in flight", _in_flight(policy.limits, settings.limits)),
        Line("rate", _rate(settings.submit.rate, settings.submit.burst)),
        Line("calendar", _calendar(policy)),
        Line("log rules", _log_rules(policy, settings.kinetic.logs)),
        Line("others", _join(policy)),
    ]


def as_object(policy: Policy, settings: Settings) -> dict[str, Any]:
    """Return the same as an object; durations in seconds, 0 where that means "off" or "no limit"."""
    rule, mine, everyones, calendar = policy.breaker, policy.limits, settings.limits, policy.calendar
    return {
        "prompt": policy.prompt,
        "join": policy.join,
        "strikes": policy.strikes,
        "breaker": {
            "failures": rule.failures,
            "memory_s": rule.memory.total_seconds(),
            "first_pause_s": rule.first_pause.total_seconds(),
            "longest_pause_s": rule.longest_pause.total_seconds(),
        },
        "budget": {"share": mine.share, "floor": mine.floor, "window_s": everyones.window.total_seconds()},
        "in_flight": mine.in_flight,
        "calendar": {
            "timezone": str(calendar.timezone),
            "quiet_hours": [str(span) for span in calendar.quiet],
            "windows": [str(span) for span in calendar.windows],
            "useless_after": _useless(calendar.useless_after) or None,
        },
        "log_rules": [{"name": each.name, "then": each.then.value} for each in policy.log_rules],
        "logs": settings.kinetic.logs,
        "all_workflows": {
            "share": everyones.share,
            "floor": everyones.floor,
            "pace": everyones.pace,
            "pace_floor": everyones.pace_floor,
            "in_flight": everyones.in_flight,
            "rate": settings.submit.rate,
            "burst": settings.submit.burst,
        },
    }


def _prompt(policy: Policy) -> str:
    if not policy.prompt:
        return "off: every attempt waits for its backoff"
    return "while other runs of the workflow complete, an attempt after a failure of a new kind comes at once"


def _strikes(policy: Policy) -> str:
    if not policy.strikes:
        return "off: equal failures are retried like any other"
    often = f"the same failure {policy.strikes} times in a row"
    return f"{often} ends it, unless the workflow as a whole is in trouble"


def _breaker(policy: Policy) -> str:
    rule = policy.breaker
    if not rule.failures:
        return "off: failures are retried however many there are"
    return (
        f"after {_count(rule.failures, 'failure')} in a row within {rough(rule.memory)} all of them wait; "
        f"one clone tries {rough(rule.first_pause)} after the newest failure, then ever later, "
        f"at least every {rough(rule.longest_pause)}"
    )


def _budget(mine: WorkflowLimits, everyones: Limits) -> str:
    own = _share(mine.share, mine.floor, "run of the workflow")
    all_ = _share(everyones.share, everyones.floor, "run")
    return f"in {rough(everyones.window)}: {own}; all workflows together {all_}"


def _share(share: float, floor: int, per: str) -> str:
    if not share:
        return "any number of clones"
    return f"{share:g} {'clone' if share == 1 else 'clones'} per {per}, at least {floor}"


def _pace(everyones: Limits) -> str:
    if not everyones.pace:
        return "off: what waited may start all at once"
    return (
        f"in 5 minutes no more clones of all workflows than {everyones.pace:g} x the runs of the busiest "
        f"5 minutes, at least {everyones.pace_floor}"
    )


def _in_flight(mine: WorkflowLimits, everyones: Limits) -> str:
    own, all_ = (str(limit or "any number") for limit in (mine.in_flight, everyones.in_flight))
    return f"{own} of the workflow, {all_} of all workflows together"


def _rate(rate: float, burst: int) -> str:
    if not rate:
        return "as fast as they come"
    return f"{rate:g} retry calls per second of all workers together, up to {burst} at once after a rest"


def _calendar(policy: Policy) -> str:
    calendar = policy.calendar
    says = [
        f"{words} {', '.join(str(span) for span in spans)}"
        for words, spans in (("only", calendar.windows), ("not", calendar.quiet))
        if spans
    ]
    if useless := _useless(calendar.useless_after):
        says.append(
            f"useless from {useless} on" if ":" in useless else f"useless {useless} after the failure"
        )
    return f"{name('; '.join(says), 200)} ({name(str(calendar.timezone))})" if says else "at any time"


def _useless(after: time | timedelta | None) -> str:
    """Return a time of day or a duration, as it is set; "" for never."""
    match after:
        case time():
            return after.isoformat(timespec="minutes")
        case timedelta():
            return rough(after)
        case None:
            return ""


def _log_rules(policy: Policy, logs: str) -> str:
    if not policy.log_rules:
        return "none"
    shown = [f"{name(each.name)} → {each.then.value}" for each in policy.log_rules[:MOST_LOG_RULES]]
    more = len(policy.log_rules) - len(shown)
    text = ", ".join([*shown, f"{more} more"] if more else shown)
    return f"{text} [yellow](logs are not read: KINETIC_LOGS=off)[/]" if logs == "off" else text


def _join(policy: Policy) -> str:
    if not policy.join:
        return "off: a retry that someone else made is not taken into account"
    return "a retry that someone else made (same distinctive payload) takes the place of the next attempt"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
