"""This worker in small worlds whose right course can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from itertools import pairwise

import pytest

from benchmarks.days import OUTAGE_DAY, WORKING_DAY, Day
from tests.unit.replay.worlds import (
    FREE,
    MINUTE,
    NO_SHARES,
    NOON,
    STEADY,
    STUCK,
    at,
    completed,
    completes,
    down_until,
    failed,
    fails,
    in_flight,
    played,
    starts,
)
from worker.domain.breaker import Rule
from worker.domain.budget import Limits
from worker.domain.calendar import Calendar, parse_span
from worker.domain.failures import Signature
from worker.domain.policy import Policy, PolicyBook
from worker.replay.ours import Worker
from worker.replay.play import play
from worker.replay.score import most_within
from worker.replay.world import Original, Outcome

NO_BREAKER = replace(STEADY, breaker=Rule(failures=0), strikes=0)
HOUR = timedelta(hours=1)


def test_a_single_failure_of_a_healthy_workflow_is_cloned_at_once() -> None:
    """While other runs complete there is nothing to wait for."""
    cases = played([*completed(range(-30, 0)), failed("f", 0)])
    assert starts(cases.values()) == [NOON]


def test_a_failure_of_an_unknown_workflow_waits_for_its_backoff() -> None:
    """With no other run known, the policy's own delay counts from the failure."""
    assert starts(played([failed("f", 0)]).values()) == [at(1)]


def test_an_outage_is_waited_for_tried_by_one_and_ended_with_a_ramp() -> None:
    """Once the breaker is open no clone leaves before the canary; then one more for each that completed."""
    originals = [failed(f"f{n}", n) for n in range(30)]
    cases = played(originals, down_until(30))
    made = starts(cases.values())
    assert len([each for each in made if each < at(3)]) <= 3, "the breaker did not open"
    first = next(each for each in made if each >= at(3))
    assert first == at(30), "a minute after the newest failure, and not before"
    for moment in made:
        done = sum(
            clone.outcome.ok and clone.outcome.ended_at <= moment
            for case in cases.values()
            for clone in case.attempts
        )
        if at(3) < moment and done < 16:
            assert in_flight(cases.values(), moment) <= 1 + done
    assert all(case.recovered_at for case in cases.values())
    assert sum(case.wasted for case in cases.values()) <= 3


def test_a_canary_that_fails_doubles_the_pause_before_the_next() -> None:
    """With no original to tell, one clone at a time tries, after pauses that double up to the longest."""
    cases = played(
        [failed(f"f{n}", n / 10) for n in range(12)], down_until(600), replace(STEADY, breaker=Rule())
    )
    made = starts(cases.values())
    pauses = [later - each for each, later in pairwise(made) if at(5) < each and later < at(600)]
    assert all(in_flight(cases.values(), each) == 1 for each in made if at(5) < each < at(600))
    assert pauses == sorted(pauses), pauses
    assert max(pauses) == HOUR + MINUTE, "the longest pause, and the minute that a clone takes"


def test_equal_failures_of_a_healthy_workflow_end_early_with_the_reason() -> None:
    """The third failure at the same step is the last: two clones."""
    cases = played(
        [*completed(range(-30, 90)), failed("f", 0.5, signature=STUCK)],
        lambda _o, _n, starts_at: fails(starts_at + MINUTE, STUCK),
    )
    assert (cases["f"].ended, len(cases["f"].attempts)) == ("deterministic", 2)


def test_failures_that_differ_use_up_the_attempts() -> None:
    """Another step each time is no strike."""
    cases = played(
        [*completed(range(-30, 600, 5)), failed("f", 0.5, signature=STUCK)],
        lambda _o, number, starts_at: fails(starts_at + MINUTE, Signature("v1", 7 + number)),
    )
    assert (cases["f"].ended, len(cases["f"].attempts)) == ("attempts_used_up", 5)


def test_the_budget_holds() -> None:
    """A tenth of a hundred runs: ten clones within the window, however many failures wait."""
    originals = [failed(f"f{n}", n) for n in range(100)]
    limits = Limits(share=0.1, floor=5, pace=0)
    made = starts(played(originals, policy=NO_BREAKER, limits=limits).values())
    assert most_within(limits.window, made) == 10


def test_the_pace_holds_and_everything_comes_back() -> None:
    """A tenth of the thirty that failed at once: three clones in any five minutes."""
    originals = [failed(f"f{n}", 0) for n in range(30)]
    cases = played(originals, policy=NO_BREAKER, limits=Limits(share=0, pace=0.1, pace_floor=1))
    assert most_within(timedelta(minutes=5), starts(cases.values())) == 3
    assert all(case.recovered_at for case in cases.values())


@pytest.mark.parametrize("breaker", [Rule(), Rule(failures=0)])
def test_the_calendar_is_kept(breaker: Rule) -> None:
    """No clone leaves in quiet hours: not one that is due, and not one that waited for its workflow."""
    calendar = Calendar(quiet=(parse_span("13:00-18:00"),))
    policy = replace(STEADY, breaker=breaker, calendar=calendar)
    cases = played([failed(f"f{n}", 40 + n) for n in range(30)], down_until(65), policy)
    made = starts(cases.values())
    assert made[-1] >= at(360), "nothing was left for after the quiet hours"
    assert [each for each in made if time(13) <= each.time() < time(18)] == []
    assert all(case.recovered_at for case in cases.values())


def test_what_waits_for_its_workflow_ends_at_the_deadline() -> None:
    """An outage without end: every lineage ends with the deadline or its attempts, none waits for ever."""
    policy = replace(STEADY, deadline=6 * HOUR)
    cases = played([failed(f"f{n}", n / 10) for n in range(20)], down_until(10**6), policy)
    assert {case.ended for case in cases.values()} <= {"deadline_passed", "attempts_used_up"}
    assert max(starts(cases.values())) <= at(2) + 6 * HOUR


def test_a_broken_workflow_does_not_hold_up_a_healthy_one() -> None:
    """Failures of the healthy are cloned at once while those of the broken wait."""
    broken = [failed(f"b{n}", n, "broken") for n in range(60)]
    healthy = [*completed(range(-30, 60), "fine"), failed("f", 30.5, "fine")]

    def fate(original: Original, _number: int, starts_at: datetime) -> Outcome:
        ends_at = starts_at + MINUTE
        return completes(ends_at) if original.workflow == "fine" else fails(ends_at)

    assert starts([played([*broken, *healthy], fate)["f"]]) == [at(30.5)]


@pytest.mark.parametrize("day", [WORKING_DAY, OUTAGE_DAY], ids=["working", "outage"])
def test_what_only_saves_work_changes_nothing(day: Day) -> None:
    """Looking at every waiting workflow at every event comes to the same, clone for clone."""

    class Thorough(Worker):
        def _opens_at(self, *_: object) -> datetime:
            return datetime.min.replace(tzinfo=NOON.tzinfo)

    world = replace(day, executions=3000).with_seed(5)
    quick, thorough = (play(world, kind(PolicyBook(Policy()), Limits(), 5)) for kind in (Worker, Thorough))
    assert [(case.ended, case.attempts) for case in quick] == [
        (case.ended, case.attempts) for case in thorough
    ]


def test_limits_switched_off_limit_nothing() -> None:
    """A hundred failures at once are a hundred clones a minute later."""
    originals = [failed(f"f{n}", 0) for n in range(100)]
    policy = replace(NO_BREAKER, limits=FREE)
    assert starts(played(originals, policy=policy, limits=NO_SHARES).values()) == [at(1)] * 100
