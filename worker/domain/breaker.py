"""A breaker per workflow: while the workflow as a whole fails, its failures wait instead of being cloned.

Pure. What is stored is little: the mode and since when. Everything else (whether it should open, when one
clone may go as a canary, how many may go while it closes) follows from that and from the runs that ended
recently, so that any worker comes to the same answer whatever order it hears of them in.

    closed ── fails too often ──► open ── any run completes ──► closing ── enough runs completed ──► closed
                                   ▲                               │
                                   └──── fails too often ──────────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from worker.domain.health import WEIGHTS, Ended, Run, Tally, tally


class Mode(StrEnum):
    """What a breaker does with the failures of its workflow."""

    CLOSED = "closed"
    """Retries them as the policy says."""
    OPEN = "open"
    """Lets them wait; one clone goes as a canary now and then."""
    CLOSING = "closing"
    """Lets more and more go, as runs complete."""


class Forced(StrEnum):
    """What a person said about a breaker."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a breaker opens and how it closes.

    Attributes:
        failures: failures in a row that open it; 0 = no breaker. See `health.tally` for what successes in
            between do.
        memory: runs that ended longer ago say nothing.
        first_pause: before the first canary; each canary that fails doubles it.
        longest_pause: the most that one canary waits for after the one before.
        full_after: completed runs after which everything goes again.
    """

    failures: int = 3
    memory: timedelta = timedelta(hours=1)
    first_pause: timedelta = timedelta(minutes=1)
    longest_pause: timedelta = timedelta(hours=1)
    full_after: int = 16

    @property
    def threshold(self) -> int:
        """The score at which it opens."""
        return self.failures * WEIGHTS[Ended.FAILED]


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is stored of a workflow's breaker.

    Attributes:
        mode, since: what it does, and since when.
        trouble_since: when it opened first, until it is closed again.
        canaries_failed, tried_at: clones that failed since then, and when the newest of them did.
        forced: what a person said; None when it decides by itself.
        forced_until: until when that holds; None = until a person says otherwise.
        detail: why it is in its mode, in words.
        version: grows with every change; 0 = not stored.
        workflow_uuid, workflow_name: whose it is, for people and to find its policy.
    """

    mode: Mode = Mode.CLOSED
    since: datetime | None = None
    trouble_since: datetime | None = None
    forced: Forced | None = None
    detail: str = ""
    version: int = 0
    workflow_uuid: str = ""
    workflow_name: str = ""
    canaries_failed: int = 0
    tried_at: datetime | None = None
    forced_until: datetime | None = None


UNTOUCHED = Breaker()
USUAL_RULE = Rule()
HEALTHY_AFTER = 3
"""Completed runs that show that a workflow works."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a breaker says now.

    Attributes:
        mode: see `Mode`.
        places: clones of the workflow that may be in flight at once; None for any number.
        next_canary_at: when `places` becomes 1 again while it is open.
        detail: why, in words with figures.
    """

    mode: Mode
    places: int | None
    next_canary_at: datetime | None
    detail: str


def judge(
    breaker: Breaker, runs: Sequence[Run], now: datetime, rule: Rule, known_until: datetime | None = None
) -> Breaker:
    """Return the breaker as it should be by what is known now; the same object when nothing changes.

    Args:
        breaker: as it is stored.
        runs: that ended lately.
        now: by the Redis server's clock.
        rule: when it opens and how it closes.
        known_until: up to when completed runs are known as well as failed ones; None when nobody tells them
            apart. What failed later is no reason to open it yet: what completed beside it is not known.
    """
    compared = [run for run in runs if known_until is None or run.ended_at <= known_until]
    for _ in Mode:  # what ended while nobody looked may open it, close it and open it again
        judged = _step(breaker, runs, compared, now, rule)
        if judged is breaker:
            break
        breaker = judged
    return breaker


def _step(
    breaker: Breaker, runs: Sequence[Run], compared: Sequence[Run], now: datetime, rule: Rule
) -> Breaker:
    if breaker.forced or not rule.failures:
        over = breaker.forced_until is not None and now >= breaker.forced_until
        return force(breaker, None, "", now) if over else breaker
    match breaker.mode:
        case Mode.CLOSED:
            heard = tally(compared, _after(breaker.since, now - rule.memory))
            if heard.score >= rule.threshold:
                return _moved(breaker, Mode.OPEN, now, heard.in_words, trouble_since=now)
        case Mode.OPEN:
            breaker = _count_canaries(breaker, runs)
            works_since = tally(runs, _just_after(breaker.since)).first_success_at
            if works_since:
                return _moved(breaker, Mode.CLOSING, works_since, "a run completed again")
        case Mode.CLOSING:
            breaker = _count_canaries(breaker, runs)
            failing = tally(compared, breaker.since)
            if failing.score >= rule.threshold:
                return _moved(breaker, Mode.OPEN, now, failing.in_words)
            heard = tally(runs, breaker.since)
            if heard.successes >= rule.full_after or _long_calm(breaker, heard, now, rule):
                closed = replace(breaker, trouble_since=None, canaries_failed=0, tried_at=None)
                return _moved(closed, Mode.CLOSED, now, "")
    return breaker


def _count_canaries(breaker: Breaker, runs: Sequence[Run]) -> Breaker:
    """Return the breaker with the clones that failed meanwhile on record.

    They are counted once and kept: what a busy workflow's newest runs show goes back some minutes only.
    """
    heard = tally(runs, _just_after(breaker.tried_at or breaker.trouble_since))
    if not heard.clones_failed:
        return breaker
    return replace(
        breaker,
        canaries_failed=breaker.canaries_failed + heard.clones_failed,
        tried_at=heard.last_clone_failure_at,
        version=breaker.version + 1,
    )


def _just_after(moment: datetime | None) -> datetime | None:
    return moment and moment + timedelta(microseconds=1)


def standing(
    breaker: Breaker, runs: Sequence[Run], now: datetime, rule: Rule, failed_at: datetime | None = None
) -> Standing:
    """Return what the breaker, judged as of now, says about the clone of a run that failed at `failed_at`.

    A run that failed after the workflow had recovered (it is healthy by what ended since) is none of those
    that waited for that.
    """
    if breaker.forced is Forced.OPEN:
        return Standing(Mode.OPEN, 0, None, breaker.detail)
    if breaker.forced is Forced.CLOSED or not rule.failures or breaker.mode is Mode.CLOSED:
        return Standing(Mode.CLOSED, None, None, breaker.detail if breaker.forced else "")
    since = breaker.since or now
    if breaker.mode is Mode.CLOSING and failed_at and failed_at > since and healthy(runs, since):
        return Standing(Mode.CLOSED, None, None, "")
    if breaker.mode is Mode.CLOSING:
        completed = tally(runs, since).successes
        return Standing(Mode.CLOSING, 1 + completed, None, f"{completed} runs completed since {since:%H:%M}")
    canary_at = next_canary(breaker, tally(runs, since).last_failure_at, rule)
    detail = breaker.detail
    if breaker.canaries_failed:
        detail += f"; {breaker.canaries_failed} clones failed since {breaker.trouble_since or since:%H:%M}"
    return Standing(Mode.OPEN, int(now >= canary_at), canary_at, detail)


def next_canary(breaker: Breaker, failed_at: datetime | None, rule: Rule) -> datetime:
    """Return when one clone may try whether an open workflow works again.

    A pause after the newest failure of any run (`failed_at`), for originals that still fail try the same for
    nothing: the pause is doubled by every clone that failed. But never later than the longest pause after the
    last try of ours.
    """
    opened_at = breaker.since or breaker.trouble_since
    assert opened_at  # noqa: S101  # an open breaker was opened
    doublings = min(breaker.canaries_failed, int(rule.longest_pause / rule.first_pause).bit_length())
    pause = min(rule.longest_pause, rule.first_pause * (1 << doublings))
    after_failure = max(opened_at, failed_at or opened_at) + pause
    at_the_latest = max(opened_at, breaker.tried_at or opened_at) + rule.longest_pause
    return min(after_failure, at_the_latest)


def force(
    breaker: Breaker, to: Forced | None, detail: str, now: datetime, until: datetime | None = None
) -> Breaker:
    """Return the breaker as a person wants it, up to a time; None lets it decide by itself, from now on."""
    fresh = replace(
        breaker, version=breaker.version + 1, since=now, forced=to, detail=detail, forced_until=until
    )
    return replace(fresh, mode=Mode.CLOSED, trouble_since=None, canaries_failed=0, tried_at=None)


def healthy(runs: Sequence[Run], since: datetime) -> bool:
    """Whether the workflow works for others, so that a failure is most likely that run's own.

    Three runs completed since then, and the score is at most that of two failures.
    """
    heard = tally(runs, since)
    return heard.successes >= HEALTHY_AFTER and heard.score <= 2 * WEIGHTS[Ended.FAILED]


def _moved(breaker: Breaker, mode: Mode, now: datetime, detail: str, **changes: datetime | None) -> Breaker:
    return replace(breaker, mode=mode, since=now, detail=detail, version=breaker.version + 1, **changes)  # type: ignore[arg-type]  # checked by replace


def _after(since: datetime | None, earliest: datetime) -> datetime:
    return max(since, earliest) if since else earliest


def _long_calm(breaker: Breaker, heard: Tally, now: datetime, rule: Rule) -> bool:
    """Whether it has been closing for so long, with some success, that nobody waits any more."""
    return bool(heard.successes and breaker.since and now - breaker.since > rule.memory / 2)
