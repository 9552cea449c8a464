"""The retry policy: when the next attempt starts, or why there will be none.

Pure functions over values: no clock, no dice, no I/O. The base delay and the jitter are two functions,
so that the first can be pinned exactly and the second only banded. The decision is a value
(`RetryAt` or `GiveUp`); acting on it is the engine's work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from worker.domain.breaker import USUAL_RULE
from worker.domain.breaker import Rule as BreakerRule
from worker.domain.budget import USUAL_LIMITS, WorkflowLimits
from worker.domain.calendar import ALWAYS, Calendar
from worker.domain.durations import format_duration
from worker.domain.failures import Signature
from worker.domain.logs import LogRule

Random = Callable[[], float]
"""Returns a number in [0, 1): `random.random`, or a constant in tests."""

NO_DELAY = timedelta(0)
LONGEST_SPREAD = timedelta(minutes=10)
"""Over which the attempts that waited for quiet hours to end are spread."""


class Backoff(StrEnum):
    """How the delay grows from one attempt to the next."""

    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class Jitter(StrEnum):
    """How much of the delay is left to chance, so that failures that came together do not return together."""

    NONE = "none"
    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"


class Climate(StrEnum):
    """How the workflow does otherwise, as far as is known when a decision is taken."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    """Its other runs complete: this failure is most likely this run's own."""
    TROUBLED = "troubled"
    """Its breaker is not closed: this failure is most likely the workflow's."""
    DOUBTFUL = "doubtful"
    """Nothing of it completed since this failure came up first: nobody shows that it works for others."""


class Rule(StrEnum):
    """Which rule set the time of an attempt."""

    PROMPT = "prompt"
    BACKOFF = "backoff"
    CALENDAR = "calendar"


class GiveUpReason(StrEnum):
    """Why no further attempt is made."""

    ATTEMPTS_USED_UP = "attempts_used_up"
    DEADLINE_PASSED = "deadline_passed"
    USELESS = "useless"
    DETERMINISTIC = "deterministic"
    REPORT_ONLY = "report_only"
    POLICY_DISABLED = "policy_disabled"


@dataclass(frozen=True, slots=True)
class Policy:
    """How failures of a workflow are retried.

    Attributes:
        max_attempts: clones allowed per lineage; the failed run itself is not counted. 0 = report only.
        backoff: see `Backoff`.
        base_delay: the delay before attempt 1, by `backoff`'s formula.
        multiplier: growth of the exponential backoff, at least 1; the others do not use it.
        max_delay: the cap on every delay.
        jitter: see `Jitter`.
        deadline: no attempt starts later than this after the root's failure.
        enabled: False rejects the workflow's failures with a reason instead of retrying them.
        prompt: the next attempt comes at once while the workflow's other runs complete and the failure is a
            new one.
        join: a retry that someone else made of the failed run is taken for ours, instead of making another.
        strikes: after so many equal failures in a row, the root's included, there is no further attempt; 0 =
            never.
        breaker: when failures of the workflow wait for it to work again.
        limits: how many clones of the workflow may be made and be in flight.
        calendar: when attempts may start, and from when on they are useless.
        log_rules: what a failed run's log says about retrying it; the first that matches counts.

    Raises:
        ValueError: a value that cannot be meant, in words for the person who set it.
    """

    max_attempts: int = 5
    backoff: Backoff = Backoff.EXPONENTIAL
    base_delay: timedelta = timedelta(minutes=1)
    multiplier: float = 4.0
    max_delay: timedelta = timedelta(hours=4)
    jitter: Jitter = Jitter.EQUAL
    deadline: timedelta = timedelta(hours=24)
    enabled: bool = True
    prompt: bool = True
    join: bool = True
    strikes: int = 3
    breaker: BreakerRule = USUAL_RULE
    limits: WorkflowLimits = USUAL_LIMITS
    calendar: Calendar = ALWAYS
    log_rules: tuple[LogRule, ...] = ()

    def __post_init__(self) -> None:
        if self.max_attempts < 0:
            raise ValueError("max_attempts must be 0 or more")
        if not (math.isfinite(self.multiplier) and self.multiplier >= 1):
            raise ValueError("multiplier must be a number of at least 1")
        if self.base_delay < NO_DELAY:
            raise ValueError("base_delay must not be negative")
        if self.base_delay > self.max_delay:
            raise ValueError("base_delay must not be longer than max_delay")
        if self.deadline <= NO_DELAY:
            raise ValueError("deadline must be longer than zero")
        if self.strikes < 0 or self.strikes == 1:
            raise ValueError("strikes must be 0 or at least 2: a first failure is equal to none")


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """One entry of the policy file: which workflows it is for, and the whole policy that applies to them."""

    name: str
    workflow_uuids: frozenset[str]
    name_globs: tuple[str, ...]
    policy: Policy

    def matches(self, workflow_uuid: str, workflow_name: str) -> bool:
        """Return whether the entry is for that workflow: by exact uuid, or by name glob in any case."""
        if workflow_uuid and workflow_uuid in self.workflow_uuids:
            return True
        name = workflow_name.casefold()
        return any(fnmatchcase(name, glob.casefold()) for glob in self.name_globs)


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """The policies in force: the first entry that matches a workflow, else the default."""

    default: Policy
    entries: tuple[PolicyEntry, ...] = ()

    def for_workflow(self, workflow_uuid: str, workflow_name: str) -> tuple[Policy, str]:
        """Return the policy for a workflow and the name of the entry it came from (`default` for none)."""
        for entry in self.entries:
            if entry.matches(workflow_uuid, workflow_name):
                return entry.policy, entry.name
        return self.default, "default"


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The next attempt.

    Attributes:
        attempt: its number.
        due_at: when it is due.
        delay: after the last failure, jitter included.
        rule, why: which rule set the time, and its figures in words.
    """

    attempt: int
    due_at: datetime
    delay: timedelta
    rule: Rule = Rule.BACKOFF
    why: str = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt, and the reason in words."""

    reason: GiveUpReason
    detail: str


@dataclass(frozen=True, slots=True)
class History:
    """What the policy needs to know of a lineage.

    Attributes:
        attempts: clones made so far.
        root_failed_at: when the root failed; the deadline counts from here.
        last_failed_at: when the newest run failed; the delay counts from here.
        last_delay: the delay before the newest attempt, for decorrelated jitter; None before the first.
        strikes: equal failures in a row, the newest included.
        signature: of the newest failure; None when the API does not tell.
        struck_since: when the first of these equal failures happened; None when the newest is the first.
    """

    attempts: int
    root_failed_at: datetime
    last_failed_at: datetime
    last_delay: timedelta | None = None
    strikes: int = 1
    signature: Signature | None = None
    struck_since: datetime | None = None


def delay_before(policy: Policy, attempt: int) -> timedelta:
    """Return the delay before an attempt (counted from 1), without jitter.

    fixed: base · linear: base * attempt · exponential: base * multiplier ** (attempt - 1); never above
    the cap. The cap is looked for in logarithms first, so no attempt number overflows.

    >>> [str(delay_before(Policy(), n)) for n in range(1, 7)]
    ['0:01:00', '0:04:00', '0:16:00', '1:04:00', '4:00:00', '4:00:00']
    >>> half, two = timedelta(seconds=30), timedelta(minutes=2)
    >>> linear = Policy(backoff=Backoff.LINEAR, base_delay=half, max_delay=two)
    >>> [delay_before(linear, n).seconds for n in range(1, 6)]
    [30, 60, 90, 120, 120]
    >>> delay_before(Policy(), 310) == Policy().max_delay
    True
    """
    if attempt < 1:
        raise ValueError("attempts are counted from 1")
    base, cap = policy.base_delay, policy.max_delay
    if base == NO_DELAY or policy.backoff is Backoff.FIXED:
        return base
    if policy.backoff is Backoff.LINEAR:
        return cap if attempt > cap / base else min(cap, base * attempt)
    growth = (attempt - 1) * math.log(policy.multiplier)
    return cap if growth >= math.log(cap / base) else min(cap, base * policy.multiplier ** (attempt - 1))


def jittered(policy: Policy, delay: timedelta, last_delay: timedelta | None, random: Random) -> timedelta:
    """Return the delay with the policy's jitter.

    none: the delay · full: between 0 and the delay · equal: between half the delay and the delay ·
    decorrelated: between the base and three times the previous delay, capped; it replaces the backoff
    (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    match policy.jitter:
        case Jitter.NONE:
            return delay
        case Jitter.FULL:
            return delay * random()
        case Jitter.EQUAL:
            return delay / 2 + delay / 2 * random()
        case Jitter.DECORRELATED:
            base = policy.base_delay
            top = min(policy.max_delay, max(base, (last_delay or base) * 3))
            return base + (top - base) * random()


def delay_band(policy: Policy, attempt: int) -> tuple[timedelta, timedelta]:
    """Return the shortest and the longest delay that jitter can make of the one before `attempt`.

    >>> [str(d) for d in delay_band(Policy(), 2)]
    ['0:02:00', '0:04:00']
    """
    delay = delay_before(policy, attempt)
    match policy.jitter:
        case Jitter.NONE:
            return delay, delay
        case Jitter.FULL:
            return NO_DELAY, delay
        case Jitter.EQUAL:
            return delay / 2, delay
        case Jitter.DECORRELATED:
            tripled = Policy(base_delay=policy.base_delay, multiplier=3.0, max_delay=policy.max_delay)
            return policy.base_delay, delay_before(tripled, attempt + 1)


def decide(
    history: History,
    policy: Policy,
    now: datetime,
    random: Random,
    climate: Climate = Climate.UNKNOWN,
) -> RetryAt | GiveUp:
    """Return when the next attempt starts, or why there is none.

    The delay counts from the last failure, not from when it was noticed; an attempt whose time has
    passed already is due now.
    """
    objection = may_start(history, policy, now) or _struck_out(history, policy, now, climate)
    if objection:
        return objection
    attempt = history.attempts + 1
    if policy.prompt and climate is Climate.HEALTHY and _is_new(history):
        delay, rule = NO_DELAY, Rule.PROMPT
        why = "at once: other runs of this workflow complete"
    else:
        delay = jittered(policy, delay_before(policy, attempt), history.last_delay, random)
        rule, why = Rule.BACKOFF, _backoff_in_words(policy, attempt)
    due_at = now + max(NO_DELAY, delay - max(NO_DELAY, now - history.last_failed_at))
    closed = policy.calendar.objection(due_at)
    if closed:
        rule, why = Rule.CALENDAR, f"not during {closed}"
        due_at = opening(policy.calendar, due_at, ends_at(history, policy), random)
        delay = due_at - history.last_failed_at
    return _past_the_end(history, policy, due_at) or RetryAt(attempt, due_at, delay, rule, why)


def _is_new(history: History) -> bool:
    """Whether this is the first failure, or is known to be another one than the last."""
    known = not history.attempts or history.signature is not None
    return known and history.strikes < 2  # noqa: PLR2004


def strikes_after(strikes: int, climate: Climate, *, same: bool) -> int:
    """Return how many equal failures in a row there are after another failure.

    One that came while the workflow as a whole failed says nothing about this one: it is not counted.
    """
    if not same:
        return 1
    return max(1, strikes) if climate is Climate.TROUBLED else strikes + 1


def may_start(history: History, policy: Policy, now: datetime) -> GiveUp | None:
    """Return why the next attempt must not start now or ever, or None when it may.

    Asked again right before each retry call: the policy may have changed and time has passed since
    the attempt was scheduled.
    """
    if not policy.enabled:
        return GiveUp(GiveUpReason.POLICY_DISABLED, "the policy for this workflow is switched off")
    if policy.max_attempts == 0:
        return GiveUp(GiveUpReason.REPORT_ONLY, "the policy allows no attempts: failures are only reported")
    if history.attempts >= policy.max_attempts:
        made, most = history.attempts, policy.max_attempts
        detail = f"{made} of {most} attempts were made"
        if made > most:  # some were a person's word
            detail = f"{made} attempts were made, and the policy allows {most}"
        return GiveUp(GiveUpReason.ATTEMPTS_USED_UP, detail)
    return _past_the_end(history, policy, now)


def ends_at(history: History, policy: Policy) -> datetime:
    """Return the last moment at which an attempt may start."""
    deadline = history.root_failed_at + policy.deadline
    useless = policy.calendar.useless_from(history.root_failed_at)
    return min(deadline, useless - timedelta(milliseconds=1)) if useless else deadline


def _past_the_end(history: History, policy: Policy, starts_at: datetime) -> GiveUp | None:
    attempt = history.attempts + 1
    useless = policy.calendar.useless_from(history.root_failed_at)
    if useless and starts_at >= useless:
        detail = (
            f"a retry is useless from {useless:%Y-%m-%d %H:%M} UTC on; attempt {attempt} would start later"
        )
        return GiveUp(GiveUpReason.USELESS, detail)
    if starts_at - history.root_failed_at > policy.deadline:
        deadline = format_duration(policy.deadline)
        detail = f"the deadline is {deadline} after the first failure; attempt {attempt} would start later"
        return GiveUp(GiveUpReason.DEADLINE_PASSED, detail)
    return None


def _struck_out(history: History, policy: Policy, now: datetime, climate: Climate) -> GiveUp | None:
    """Return the end of a lineage that fails the same way again and again, while its workflow works."""
    if not policy.strikes or history.strikes < policy.strikes or climate is Climate.TROUBLED:
        return None
    since = history.struck_since or history.last_failed_at
    if climate is Climate.DOUBTFUL and now - since < patience(policy) / 4:
        return None  # nobody shows that it works for others: what is down must have time to come back
    where = f": {history.signature.in_words}" if history.signature else ""
    return GiveUp(GiveUpReason.DETERMINISTIC, f"the same failure {history.strikes} times in a row{where}")


def patience(policy: Policy) -> timedelta:
    """Return how long all attempts wait together.

    >>> str(patience(Policy()))
    '5:25:00'
    """
    delays = (delay_before(policy, attempt) for attempt in range(1, policy.max_attempts + 1))
    return sum(delays, NO_DELAY)


def opening(calendar: Calendar, moment: datetime, until: datetime, random: Random) -> datetime:
    """Return a moment soon after the next opening: what waited over night must not start in one second.

    Never later than `until` when it opens before that; just after `until` when it does not.
    """
    opens = calendar.next_open(moment)
    if opens is None or opens > until:
        return until + timedelta(milliseconds=100)
    closes = min(calendar.next_closed(opens) or until, until)
    return opens + min(LONGEST_SPREAD, (closes - opens) / 4) * random()


def _backoff_in_words(policy: Policy, attempt: int) -> str:
    ends = [format_duration(each) for each in delay_band(policy, attempt)]
    band = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
    return f"{policy.backoff.value} backoff of {band}"
