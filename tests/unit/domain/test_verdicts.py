"""What the policy makes of the climate, of strikes and of the end: which rule decides, and its words."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.worlds import HOUR, MINUTE, NOON, SECOND
from worker.domain.calendar import Calendar, parse_span
from worker.domain.failures import Signature
from worker.domain.policy import (
    Climate,
    GiveUp,
    GiveUpReason,
    History,
    Jitter,
    Policy,
    RetryAt,
    Rule,
    decide,
    ends_at,
    may_start,
    strikes_after,
)

PLAIN = Policy(jitter=Jitter.NONE)
FIRST = History(0, NOON, NOON)
STUCK = Signature("v1", 7, 21, 60_000)


def middle() -> float:
    """Roll no dice."""
    return 0.5


def retry(history: History, climate: Climate, policy: Policy = PLAIN, now: datetime = NOON) -> RetryAt:
    """Return the decision, which must be a retry."""
    decision = decide(history, policy, now, middle, climate)
    assert isinstance(decision, RetryAt), decision
    return decision


def give_up(history: History, climate: Climate, policy: Policy = PLAIN, now: datetime = NOON) -> GiveUp:
    """Return the decision, which must be an end."""
    decision = decide(history, policy, now, middle, climate)
    assert isinstance(decision, GiveUp), decision
    return decision


# --- the prompt attempt ------------------------------------------------------------------------------


def test_a_new_failure_of_a_healthy_workflow_is_retried_at_once() -> None:
    """Others complete: it is most likely this run's own, and waiting helps nobody."""
    decision = retry(FIRST, Climate.HEALTHY)
    assert (decision.due_at, decision.delay, decision.rule) == (NOON, timedelta(0), Rule.PROMPT)
    assert decision.why == "at once: other runs of this workflow complete"


@pytest.mark.parametrize("climate", [Climate.UNKNOWN, Climate.TROUBLED, Climate.DOUBTFUL])
def test_otherwise_the_backoff_counts(climate: Climate) -> None:
    """Nothing is known for it, or something against it."""
    decision = retry(FIRST, climate)
    assert (decision.due_at, decision.rule) == (NOON + MINUTE, Rule.BACKOFF)
    assert decision.why == "exponential backoff of 1m"


def test_the_backoff_names_its_band() -> None:
    """With jitter the words hold the shortest and the longest delay."""
    decision = retry(replace(FIRST, attempts=1), Climate.UNKNOWN, Policy())
    assert decision.why == "exponential backoff of 2m to 4m"


@pytest.mark.parametrize(("strikes", "rule"), [(1, Rule.PROMPT), (2, Rule.BACKOFF)])
def test_the_same_failure_again_is_not_retried_at_once(strikes: int, rule: Rule) -> None:
    """Another failure at a later attempt is new as well; the same one is given time."""
    history = History(1, NOON, NOON, strikes=strikes, signature=STUCK)
    assert retry(history, Climate.HEALTHY).rule is rule


def test_where_the_api_does_not_tell_how_it_failed_only_the_first_attempt_is_prompt() -> None:
    """Nobody can say whether it is the same failure again: all attempts at once would be spent in vain."""
    assert retry(History(0, NOON, NOON), Climate.HEALTHY).rule is Rule.PROMPT
    assert retry(History(1, NOON, NOON), Climate.HEALTHY).rule is Rule.BACKOFF


def test_without_witnesses_the_same_failure_is_given_time() -> None:
    """A quiet workflow whose site is down for an hour fails the same way each time: no verdict yet."""
    quick = History(2, NOON, NOON + 20 * MINUTE, strikes=3, signature=STUCK, struck_since=NOON)
    assert isinstance(decide(quick, Policy(), NOON + 20 * MINUTE, lambda: 0.5, Climate.DOUBTFUL), RetryAt)
    late = decide(quick, Policy(), NOON + 90 * MINUTE, lambda: 0.5, Climate.DOUBTFUL)
    assert isinstance(late, GiveUp)
    assert late.reason is GiveUpReason.DETERMINISTIC


def test_it_can_be_switched_off() -> None:
    """prompt=False: the backoff always."""
    assert retry(FIRST, Climate.HEALTHY, replace(PLAIN, prompt=False)).rule is Rule.BACKOFF


def test_it_obeys_every_other_rule() -> None:
    """The last attempt, the deadline and a policy that is switched off come first."""
    used_up = give_up(replace(FIRST, attempts=5), Climate.HEALTHY)
    assert used_up.reason is GiveUpReason.ATTEMPTS_USED_UP
    late = give_up(FIRST, Climate.HEALTHY, now=NOON + 25 * HOUR)
    assert late.reason is GiveUpReason.DEADLINE_PASSED
    off = give_up(FIRST, Climate.HEALTHY, replace(PLAIN, enabled=False))
    assert off.reason is GiveUpReason.POLICY_DISABLED


# --- strikes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("climate", [Climate.HEALTHY, Climate.UNKNOWN])
def test_the_third_equal_failure_ends_it_and_names_the_step(climate: Climate) -> None:
    """Not two of them; the words say how often and where."""
    second = History(1, NOON, NOON, strikes=2, signature=STUCK)
    assert retry(second, climate).attempt == 2
    third = give_up(History(2, NOON, NOON, strikes=3, signature=STUCK), climate)
    assert third.reason is GiveUpReason.DETERMINISTIC
    assert third.detail == "the same failure 3 times in a row: step 7, 21 actions, 60 s"


@pytest.mark.parametrize("climate", [Climate.TROUBLED, Climate.DOUBTFUL])
def test_while_others_fail_too_it_goes_on(climate: Climate) -> None:
    """Equal failures of a workflow that is down are the outage's and pass with it."""
    assert retry(History(2, NOON, NOON, strikes=9, signature=STUCK), climate).attempt == 3


def test_strikes_can_be_switched_off() -> None:
    """strikes=0 never ends a lineage."""
    assert retry(History(4, NOON, NOON, strikes=9), Climate.HEALTHY, replace(PLAIN, strikes=0)).attempt == 5
    assert give_up(History(1, NOON, NOON, strikes=2), Climate.HEALTHY, replace(PLAIN, strikes=2)).reason is (
        GiveUpReason.DETERMINISTIC
    )


@pytest.mark.parametrize("strikes", [1, -1])
def test_one_strike_cannot_be_meant(strikes: int) -> None:
    """A first failure is equal to none."""
    with pytest.raises(ValueError, match="strikes must be 0 or at least 2"):
        Policy(strikes=strikes)


@given(st.integers(0, 20), st.sampled_from(Climate), st.booleans())
def test_counting_strikes(strikes: int, climate: Climate, same: bool) -> None:
    """Another failure starts anew; the same one counts, unless the workflow as a whole fails."""
    after = strikes_after(strikes, climate, same=same)
    assert after >= 1
    if not same:
        assert after == 1
    elif climate is Climate.TROUBLED:
        assert after == max(1, strikes)
    else:
        assert after == strikes + 1


# --- the end -----------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.integers(-1, 1))
def test_the_end_is_the_last_moment(minutes: int, off_s: int) -> None:
    """Until `ends_at` an attempt may start; a second later none may."""
    policy = replace(PLAIN, deadline=minutes * MINUTE)
    end = ends_at(FIRST, policy)
    assert end == NOON + minutes * MINUTE
    may = may_start(FIRST, policy, end + off_s * SECOND)
    assert (may is None) == (off_s <= 0)


def test_the_deadline_in_words() -> None:
    """How long it is, and which attempt would be too late."""
    objection = may_start(replace(FIRST, attempts=1), PLAIN, NOON + 25 * HOUR)
    assert objection == GiveUp(
        GiveUpReason.DEADLINE_PASSED,
        "the deadline is 24h after the first failure; attempt 2 would start later",
    )


@given(
    st.integers(0, 6),
    st.integers(0, 4),
    st.sampled_from(Climate),
    st.integers(0, 30 * 3600),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(Jitter),
)
def test_every_decision_says_which_rule_and_why(  # noqa: PLR0917  # hypothesis hands in one by one
    attempts: int, strikes: int, climate: Climate, later_s: int, die: float, jitter: Jitter
) -> None:
    """Whatever comes together: a rule and its words, never later than the end."""
    history = History(attempts, NOON, NOON, strikes=strikes, signature=STUCK)
    policy = Policy(jitter=jitter)
    decision = decide(history, policy, NOON + later_s * SECOND, lambda: die, climate)
    if isinstance(decision, GiveUp):
        assert decision.detail
        return
    assert decision.why
    assert decision.due_at <= ends_at(history, policy)
    assert may_start(history, policy, decision.due_at) is None
    assert decision.rule is (Rule.PROMPT if climate is Climate.HEALTHY and strikes < 2 else Rule.BACKOFF)


# --- the calendar ------------------------------------------------------------------------------------

NIGHT = Calendar(ZoneInfo("UTC"), quiet=(parse_span("22:00-06:00"),))
AT_23 = NOON + 11 * HOUR


def test_what_is_due_in_quiet_hours_waits_for_them_to_end() -> None:
    """The rule is named; the starts are spread, so that a night's failures do not come in one second."""
    policy = replace(PLAIN, calendar=NIGHT)
    late = History(0, AT_23, AT_23)
    opens = NOON + 18 * HOUR
    decision = retry(late, Climate.HEALTHY, policy, AT_23)
    assert (decision.rule, decision.why) == (Rule.CALENDAR, "not during quiet hours 22:00-06:00 UTC")
    assert decision.due_at == opens + 5 * MINUTE
    assert decision.delay == decision.due_at - AT_23
    dice = [decide(late, policy, AT_23, lambda die=die: die) for die in (0.0, 0.999)]  # type: ignore[misc]
    assert [each.due_at <= opens + 10 * MINUTE for each in dice if isinstance(each, RetryAt)] == [True] * 2


def test_a_short_window_is_not_overrun_by_the_spread() -> None:
    """What is spread over a window of minutes stays in it."""
    brief = Calendar(ZoneInfo("UTC"), windows=(parse_span("06:00-06:08"),))
    decision = retry(FIRST, Climate.UNKNOWN, replace(PLAIN, calendar=brief))
    assert decision.due_at == NOON + 18 * HOUR + MINUTE


def test_a_wait_beyond_the_deadline_ends_it() -> None:
    """When the next opening is too late, or there is none, nobody waits for it."""
    soon = replace(PLAIN, calendar=NIGHT, deadline=2 * HOUR)
    assert give_up(History(0, AT_23, AT_23), Climate.HEALTHY, soon, AT_23).reason is (
        GiveUpReason.DEADLINE_PASSED
    )
    never = Calendar(ZoneInfo("UTC"), quiet=(parse_span("00:00-24:00"),))
    assert give_up(FIRST, Climate.HEALTHY, replace(PLAIN, calendar=never)).reason is (
        GiveUpReason.DEADLINE_PASSED
    )


def test_a_retry_that_came_too_late_to_be_of_use_is_not_made() -> None:
    """The end is the earlier of the deadline and when it is useless; the words name that time."""
    policy = replace(PLAIN, calendar=Calendar(useless_after=time(18)))
    assert ends_at(FIRST, policy) == NOON + 6 * HOUR - timedelta(milliseconds=1)
    assert ends_at(FIRST, replace(policy, deadline=HOUR)) == NOON + HOUR
    assert may_start(FIRST, policy, NOON + 6 * HOUR - SECOND) is None
    assert may_start(FIRST, policy, NOON + 6 * HOUR + SECOND) == GiveUp(
        GiveUpReason.USELESS,
        "a retry is useless from 2026-03-01 18:00 UTC on; attempt 1 would start later",
    )
    waits = replace(policy, base_delay=4 * HOUR)
    assert give_up(History(0, NOON, NOON + 3 * HOUR), Climate.UNKNOWN, waits, NOON + 3 * HOUR).reason is (
        GiveUpReason.USELESS
    )


spans = st.sampled_from(["22:00-06:00", "mon-fri 08:00-18:00", "sat,sun", "12:00-12:05", "sun 00:00-24:00"])


@given(st.sets(spans, max_size=2), st.sets(spans, max_size=2), st.integers(0, 14 * 24 * 60), st.data())
def test_no_attempt_is_due_when_the_calendar_objects(
    quiet: set[str], windows: set[str], minutes: int, data: st.DataObject
) -> None:
    """Whatever the rules, the dice and the zone: in time, or never."""
    zone = ZoneInfo(data.draw(st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"])))
    calendar = Calendar(zone, tuple(map(parse_span, sorted(quiet))), tuple(map(parse_span, sorted(windows))))
    policy = Policy(calendar=calendar, deadline=30 * 24 * HOUR)
    failed_at = NOON + minutes * MINUTE
    die = data.draw(st.floats(0, 1, exclude_max=True))
    climate = data.draw(st.sampled_from(Climate))
    decision = decide(History(0, failed_at, failed_at), policy, failed_at, lambda: die, climate)
    if isinstance(decision, RetryAt):
        assert calendar.objection(decision.due_at) is None
        assert decision.due_at >= failed_at
    else:
        assert calendar.next_open(failed_at + HOUR) is None or not calendar.ever_opens
