"""The policy at its ordinary and at its extreme values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.policy import (
    Backoff,
    GiveUp,
    GiveUpReason,
    History,
    Jitter,
    Policy,
    PolicyBook,
    PolicyEntry,
    RetryAt,
    decide,
    delay_band,
    delay_before,
    jittered,
    may_start,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
durations = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650))
dice = st.floats(min_value=0, max_value=1, exclude_max=True)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    base, cap = sorted((draw(durations), draw(durations)))
    return Policy(
        max_attempts=draw(st.integers(0, 1000)),
        backoff=draw(st.sampled_from(Backoff)),
        base_delay=base,
        multiplier=draw(st.floats(1, 1e6)),
        max_delay=cap,
        jitter=draw(st.sampled_from(Jitter)),
        deadline=draw(durations.filter(bool)),
    )


@given(policies(), st.integers(1, 100_000))
def test_a_delay_is_never_negative_and_never_above_the_cap(policy: Policy, attempt: int) -> None:
    """Whatever the attempt number: no overflow, no negative, no more than max_delay."""
    assert timedelta(0) <= delay_before(policy, attempt) <= policy.max_delay


@given(policies(), st.integers(1, 400))
def test_delays_do_not_shrink(policy: Policy, attempt: int) -> None:
    """Backoff grows or stays."""
    assert delay_before(policy, attempt) <= delay_before(policy, attempt + 1)


@given(policies(), st.integers(1, 400), st.none() | durations, dice)
def test_jitter_stays_in_its_band(policy: Policy, attempt: int, last: timedelta | None, die: float) -> None:
    """full: 0..d, equal: d/2..d, none: d, decorrelated: base..cap; the published band holds them all."""
    if policy.jitter is Jitter.DECORRELATED:
        last = None if last is None else min(last, delay_band(policy, attempt)[1] / 3)
        attempt += last is not None
    delay = jittered(policy, delay_before(policy, attempt), last, lambda: die)
    low, high = delay_band(policy, attempt)
    tick = timedelta(microseconds=2)
    assert low - tick <= delay <= high + tick
    assert delay <= policy.max_delay + tick


@given(policies(), st.integers(0, 1200), st.datetimes(), st.datetimes(), dice)
def test_a_decision_is_always_made(
    policy: Policy, attempts: int, failed: datetime, now: datetime, die: float
) -> None:
    """Huge clocks, clocks that run backwards, absurd attempt numbers: a value comes out, never an error."""
    failed, now = failed.replace(tzinfo=UTC), now.replace(tzinfo=UTC)
    decision = decide(History(attempts, failed, failed), policy, now, lambda: die)
    if isinstance(decision, RetryAt):
        assert decision.attempt == attempts + 1 <= policy.max_attempts
        assert now <= decision.due_at
        assert decision.due_at - failed <= policy.deadline or now < failed
    else:
        assert decision.detail


def test_the_default_schedule_reaches_over_five_hours() -> None:
    """1m 4m 16m 64m 4h, as documented."""
    total = sum((delay_before(Policy(), n) for n in range(1, 6)), timedelta(0))
    assert total == timedelta(hours=5, minutes=25)


@pytest.mark.parametrize("attempt", [310, 1025, 10**9])
def test_an_absurd_attempt_is_the_cap(attempt: int) -> None:
    """Floats overflow at 2**1024; we do not."""
    assert delay_before(Policy(multiplier=10), attempt) == Policy().max_delay


def test_multiplier_one_is_fixed_and_delay_zero_is_zero() -> None:
    """The edges of the formula."""
    assert delay_before(Policy(multiplier=1), 50) == timedelta(minutes=1)
    nothing = Policy(base_delay=timedelta(0))
    assert [delay_before(nothing, n) for n in (1, 2, 310)] == [timedelta(0)] * 3


def test_zero_attempts_is_report_only_and_not_unlimited() -> None:
    """0 means none."""
    decision = decide(History(0, NOW, NOW), Policy(max_attempts=0), NOW, lambda: 0.0)
    assert isinstance(decision, GiveUp)
    assert decision.reason is GiveUpReason.REPORT_ONLY


def test_the_last_allowed_attempt_is_made_and_none_after_it() -> None:
    """max_attempts=3 allows exactly three clones."""
    policy = Policy(max_attempts=3)
    assert isinstance(decide(History(2, NOW, NOW), policy, NOW, lambda: 0.0), RetryAt)
    last = decide(History(3, NOW, NOW), policy, NOW, lambda: 0.0)
    assert isinstance(last, GiveUp)
    assert last.reason is GiveUpReason.ATTEMPTS_USED_UP


def test_the_delay_counts_from_the_failure_not_from_when_it_was_noticed() -> None:
    """A failure noticed late is retried when it would have been anyway, or now when that has passed."""
    policy = Policy(jitter=Jitter.NONE)
    noticed = NOW + timedelta(seconds=45)
    decision = decide(History(0, NOW, NOW), policy, noticed, lambda: 0.0)
    assert isinstance(decision, RetryAt)
    assert decision.due_at == NOW + timedelta(minutes=1)
    late = decide(History(0, NOW, NOW), policy, NOW + timedelta(hours=2), lambda: 0.0)
    assert isinstance(late, RetryAt)
    assert late.due_at == NOW + timedelta(hours=2)


def test_no_attempt_starts_after_the_deadline() -> None:
    """Neither is one scheduled beyond it nor does one that waited too long start."""
    policy = Policy(deadline=timedelta(minutes=30), jitter=Jitter.NONE, base_delay=timedelta(minutes=20))
    ok = decide(History(0, NOW, NOW), policy, NOW, lambda: 0.0)
    assert isinstance(ok, RetryAt)
    beyond = decide(
        History(1, NOW, NOW + timedelta(minutes=21)), policy, NOW + timedelta(minutes=21), lambda: 0.0
    )
    assert isinstance(beyond, GiveUp)
    assert beyond.reason is GiveUpReason.DEADLINE_PASSED
    assert may_start(History(0, NOW, NOW), policy, NOW + timedelta(minutes=29)) is None
    assert may_start(History(0, NOW, NOW), policy, NOW + timedelta(minutes=31)) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"max_attempts": -1},
        {"multiplier": 0.5},
        {"multiplier": float("nan")},
        {"base_delay": timedelta(seconds=-1)},
        {"base_delay": timedelta(hours=5)},
        {"deadline": timedelta(0)},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(changes: dict[str, object]) -> None:
    """Values are checked when they are built."""
    with pytest.raises(ValueError, match="must"):
        Policy(**changes)  # type: ignore[arg-type]


def test_the_first_matching_entry_decides() -> None:
    """By exact uuid or by name glob in any case; else the default."""
    fast, slow = Policy(max_attempts=9), Policy(max_attempts=1)
    book = PolicyBook(
        Policy(),
        (
            PolicyEntry("by uuid", frozenset({"u-1"}), (), slow),
            PolicyEntry("by name", frozenset(), ("Eligibility*",), fast),
            PolicyEntry("all", frozenset(), ("*",), Policy(enabled=False)),
        ),
    )
    assert book.for_workflow("u-1", "Eligibility check") == (slow, "by uuid")
    assert book.for_workflow("u-2", "ELIGIBILITY check") == (fast, "by name")
    assert book.for_workflow("", "")[1] == "all"
    assert PolicyBook(Policy()).for_workflow("u-1", "x")[1] == "default"
