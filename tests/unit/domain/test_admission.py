"""Whether a clone may go now: what is known of a workflow put together, the climate, and the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.worlds import HOUR, MINUTE, NOON, SECOND, runs, runs_of
from worker.domain.admission import View, choose, climate, in_words, view
from worker.domain.breaker import UNTOUCHED, Breaker, Forced, Mode, Rule, force
from worker.domain.budget import Limit, Limits, Usage, WorkflowLimits
from worker.domain.health import Run
from worker.domain.policy import Climate, Policy

POLICY = Policy()
IDLE = Usage()
OPENED = Breaker(Mode.OPEN, NOON - 30 * MINUTE, NOON - 30 * MINUTE, detail="all failed", version=1)
CLOSING = Breaker(Mode.CLOSING, NOON - 10 * MINUTE, NOON - HOUR, version=2)


def seen(
    breaker: Breaker = UNTOUCHED,
    heard: Sequence[Run] = (),
    usage: Usage = IDLE,
    policy: Policy = POLICY,
    failed_at: datetime | None = None,
) -> View:
    """Return what is known at noon."""
    return view(breaker, heard, usage, policy, Limits(), now=NOON, failed_at=failed_at)


def climate_of(
    breaker: Breaker, heard: Sequence[Run], failed_at: datetime = NOON, since: datetime | None = None
) -> Climate:
    """Return the climate at noon for a run that failed then; `since`: when the same failure came up first."""
    return climate(seen(breaker, heard, failed_at=failed_at), heard, NOON, POLICY.breaker, since)


@given(runs(NOON), st.sampled_from([UNTOUCHED, OPENED, CLOSING]), st.builds(Usage, *[st.integers(0, 30)] * 8))
def test_an_objection_and_nothing_free_are_the_same(
    heard: Sequence[Run], breaker: Breaker, usage: Usage
) -> None:
    """There is always an answer, and it is in words."""
    found = seen(breaker, heard, usage)
    assert (found.objection is None) == (found.free > 0)
    if found.objection:
        assert in_words(found.objection, found, Limits())


def test_an_open_breaker_lets_one_clone_go_and_no_second() -> None:
    """The canary takes the only place."""
    assert seen(OPENED).objection is None
    assert seen(OPENED).free == 1
    assert seen(OPENED, usage=Usage(in_flight=1, trying=1)).objection is Limit.WORKFLOW_FAILING


def test_it_is_judged_when_it_is_looked_at() -> None:
    """Whoever looks sees the breaker as it should be, and that it has to be stored."""
    found = seen(UNTOUCHED, runs_of("fff"))
    assert found.breaker is UNTOUCHED
    assert (found.judged.mode, found.standing.places, found.free) == (Mode.OPEN, 0, 0)


def test_the_policys_own_rule_and_limits_count() -> None:
    """Overrides of the policy file reach the breaker and the budget."""
    heard = runs_of("fff")
    patient = Policy(breaker=Rule(failures=5), limits=WorkflowLimits(in_flight=1))
    assert seen(UNTOUCHED, heard, policy=patient).judged is UNTOUCHED
    busy = Usage(in_flight=1)
    assert seen(UNTOUCHED, heard, busy, policy=patient).objection is Limit.WORKFLOW_IN_FLIGHT


# --- who may go --------------------------------------------------------------------------------------

WAITING = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=30)


@given(WAITING, st.tuples(*[st.integers(0, 6)] * 3), st.integers(0, 40), st.integers(0, 25))
def test_workflows_take_turns_as_far_as_there_is_room(
    failed: list[tuple[str, int]], places: tuple[int, int, int], most: int, everywhere: int
) -> None:
    """Nobody is passed over who has room, none goes twice, and no place is given to two."""
    waiting = [(workflow, NOON - ago * MINUTE) for workflow, ago in failed]
    policies = [Policy(limits=WorkflowLimits(in_flight=room)) for room in places]
    limits = Limits(in_flight=everywhere)
    seen_by = {
        name: view(UNTOUCHED, (), IDLE, policy, limits, now=NOON)
        for name, policy in zip("abc", policies, strict=True)
    }
    chosen = choose(waiting, seen_by, most)
    assert len(set(chosen)) == len(chosen) <= most
    for name, room in zip("abc", places, strict=True):
        mine = [each for each in chosen if waiting[each][0] == name]
        assert [waiting[each][1] for each in mine] == sorted(waiting[each][1] for each in mine)
        assert len(mine) <= (room or 10)  # the workflow's floor
        left = {position for position, each in enumerate(waiting) if each[0] == name} - set(mine)
        if left and len(chosen) < min(most, everywhere or most, 18):  # 90% of the pace's floor
            assert len(mine) == (room or 10)


def test_a_flood_does_not_hold_up_a_single_failure() -> None:
    """A hundred wait since an hour, one since a minute: it goes second, and not last."""
    waiting = [("a", NOON - 60 * MINUTE)] * 100 + [("b", NOON - MINUTE)]
    views = {name: view(UNTOUCHED, (), IDLE, Policy(), Limits(), now=NOON) for name in "ab"}
    assert choose(waiting, views, 5)[:2] == [0, 100]


def test_a_clone_that_hangs_does_not_keep_the_canary_back_for_ever() -> None:
    """What has been in flight for longer than the longest pause is no longer tried: the next one may go."""
    assert seen(OPENED, usage=Usage(in_flight=1, trying=0)).objection is None


# --- the climate -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("", Climate.UNKNOWN),
        ("f", Climate.UNKNOWN),
        ("ccf", Climate.UNKNOWN),
        ("cccf", Climate.HEALTHY),
        ("cccff", Climate.HEALTHY),
        ("ccffcf", Climate.UNKNOWN),
        ("cccfff", Climate.TROUBLED),
    ],
)
def test_climates(letters: str, expected: Climate) -> None:
    """Healthy needs successes, trouble is an open breaker, and nothing is known of silence."""
    assert climate_of(UNTOUCHED, runs_of(letters)) is expected


def test_old_successes_are_no_health() -> None:
    """Runs that ended before the breaker's memory say nothing."""
    assert climate_of(UNTOUCHED, runs_of("cccc", ending=NOON - HOUR - SECOND)) is Climate.UNKNOWN


def test_nothing_completed_since_it_fails_this_way_is_doubtful() -> None:
    """Others ran before; since the first of these equal failures none did."""
    heard = runs_of("cccc", ending=NOON - 10 * MINUTE)
    repeated = NOON - 5 * MINUTE
    assert climate_of(UNTOUCHED, heard, since=repeated) is Climate.DOUBTFUL
    since_then = (*heard, *runs_of("c", ending=NOON - MINUTE))
    assert climate_of(UNTOUCHED, since_then, since=repeated) is Climate.HEALTHY


@pytest.mark.parametrize("noticed_s", [0, 1, 30, 300])
def test_a_first_failure_is_not_doubtful_because_it_was_noticed_late(noticed_s: int) -> None:
    """Failures are polled for, so that each is some seconds old: the prompt attempt must not hang on that."""
    failed_at = NOON - noticed_s * SECOND
    heard = runs_of("ccccf", ending=failed_at)
    assert climate_of(UNTOUCHED, heard, failed_at) is Climate.HEALTHY


def test_a_failure_after_the_recovery_is_its_own() -> None:
    """While it closes and others complete, only those that waited are the workflow's trouble."""
    heard = runs_of("ccccf")
    assert climate_of(CLOSING, heard, NOON - 20 * MINUTE) is Climate.TROUBLED
    assert climate_of(CLOSING, heard, NOON) is Climate.HEALTHY


@pytest.mark.parametrize(
    ("since_then", "expected"),
    [("ccc", Climate.UNKNOWN), ("cc", Climate.TROUBLED), ("cccfff", Climate.TROUBLED)],
)
def test_what_waits_while_others_complete_is_no_longer_the_workflows_trouble(
    since_then: str, expected: Climate
) -> None:
    """Three runs completed since it fails this way, and more than failed: its own strikes count again."""
    heard = runs_of(since_then, ending=NOON - MINUTE)
    failed_first = NOON - 20 * MINUTE
    assert climate_of(CLOSING, heard, failed_first, failed_first) is expected


def test_what_a_person_holds_open_is_trouble() -> None:
    """A person says that the workflow is broken: its failures are not the runs' own."""
    held = force(UNTOUCHED, Forced.OPEN, "bad deploy", NOON - HOUR)
    assert climate_of(held, runs_of("ccccf")) is Climate.TROUBLED


def test_without_a_breaker_healthy_workflows_are_still_known() -> None:
    """Switching the breaker off does not switch off the prompt attempt as well."""
    policy = Policy(breaker=Rule(failures=0))
    heard = runs_of("cccccccf")
    found = seen(UNTOUCHED, heard, policy=policy)
    assert climate(found, heard, NOON, policy.breaker, None) is Climate.HEALTHY


# --- the words ---------------------------------------------------------------------------------------

BUSY = Usage(
    runs=40, all_runs=1000, busiest=30, made=41, all_made=501, made_lately=31, in_flight=3, all_in_flight=9
)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Limit.WORKFLOW_IN_FLIGHT, "3 of 2 clones of the workflow are in flight"),
        (Limit.IN_FLIGHT, "9 of 8 clones are in flight"),
        (Limit.WORKFLOW_BUDGET, "41 of 80 clones were made in 6 h, in which the workflow had 40 runs"),
        (Limit.BUDGET, "501 of 1000 clones were made in 6 h, in which all workflows had 1000 runs"),
        (Limit.PACE, "31 of 27 clones were made in the last 5 minutes"),
    ],
)
def test_limits_in_words(limit: Limit, words: str) -> None:
    """With the figures that the decision rests on."""
    limits = Limits(in_flight=8)
    policy = Policy(limits=WorkflowLimits(in_flight=2))
    assert in_words(limit, view(UNTOUCHED, (), BUSY, policy, limits, now=NOON), limits) == words


def test_a_breaker_in_words() -> None:
    """Why, since when, and when the next clone tries; no longer when a person holds it."""
    heard = runs_of("gg", ending=NOON - MINUTE)
    failing = in_words(Limit.WORKFLOW_FAILING, seen(OPENED, heard), Limits())
    assert failing == (
        "the workflow fails: all failed; 2 clones failed since 11:30; "
        "one clone tries it at 12:03:00 UTC or later"
    )
    ramp = seen(CLOSING, runs_of("dd", ending=NOON - MINUTE), Usage(in_flight=3))
    assert in_words(Limit.WORKFLOW_FAILING, ramp, Limits()) == (
        "the workflow works again and is let go by steps: 3 of 3 clones are in flight"
    )
    held = seen(force(UNTOUCHED, Forced.OPEN, "ann: bad deploy", NOON))
    assert "ann: bad deploy" in in_words(Limit.WORKFLOW_FAILING, held, Limits())


def test_short_windows_are_in_words_people_can_read() -> None:
    """No fractions of an hour with six digits."""
    limits = replace(Limits(), window=20 * MINUTE)
    found = view(UNTOUCHED, (), BUSY, POLICY, limits, now=NOON)
    assert "0.333" not in in_words(Limit.BUDGET, found, limits)
