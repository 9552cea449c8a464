"""A workflow's breaker: when it opens, when one clone tries, how it closes, and what holds for any runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.domain.worlds import HOUR, MINUTE, NOON, SECOND, rules, runs, runs_of
from worker.domain.breaker import (
    UNTOUCHED,
    Breaker,
    Forced,
    Mode,
    Rule,
    force,
    healthy,
    judge,
    next_canary,
    standing,
)
from worker.domain.health import Ended, Run, tally

RULE = Rule()
OPEN = Breaker(Mode.OPEN, NOON, NOON, detail="all of the last 3 runs failed", version=1)
CLOSING = Breaker(Mode.CLOSING, NOON, NOON - HOUR, detail="a run completed again", version=2)
NEVER_SETTLES = 10

good = st.sampled_from([Ended.COMPLETED, Ended.CLONE_COMPLETED])


@st.composite
def breakers(draw: st.DrawFn) -> Breaker:
    """Breakers in every mode, as the ledger may hold them."""
    mode = draw(st.sampled_from(Mode))
    if mode is Mode.CLOSED:
        since = draw(st.none() | st.integers(0, 300).map(lambda ago: NOON - ago * MINUTE))
        return Breaker(
            mode, since, None, draw(st.none() | st.sampled_from(Forced)), version=draw(st.integers(0, 9))
        )
    since = NOON - draw(st.integers(0, 300)) * MINUTE
    return Breaker(mode, since, since - draw(st.integers(0, 300)) * MINUTE, version=draw(st.integers(1, 9)))


def settled(breaker: Breaker, heard: Sequence[Run], now: datetime, rule: Rule = RULE) -> Breaker:
    """Judge until nothing changes any more."""
    for _ in range(NEVER_SETTLES):
        judged = judge(breaker, heard, now, rule)
        if judged is breaker:
            return breaker
        breaker = judged
    pytest.fail(f"it goes round and round: {breaker}")


# --- what holds for any runs -------------------------------------------------------------------------


@given(breakers(), runs(NOON), rules())
def test_judging_comes_to_rest(breaker: Breaker, heard: Sequence[Run], rule: Rule) -> None:
    """What is known by now leads to one answer after a few steps; judging that again changes nothing."""
    rest = settled(breaker, heard, NOON, rule)
    assert judge(rest, heard, NOON, rule) is rest


@given(breakers(), runs(NOON), rules())
def test_each_change_has_a_new_version(breaker: Breaker, heard: Sequence[Run], rule: Rule) -> None:
    """The ledger stores it compare-and-set; a judgement without a change is the same object."""
    judged = judge(breaker, heard, NOON, rule)
    if judged is not breaker:
        assert judged.version > breaker.version
        assert judged.since is not None
        assert judged.since <= NOON
        assert (judged.trouble_since is None) == (judged.mode is Mode.CLOSED)


@given(breakers(), runs(NOON), rules(), st.sampled_from(Forced))
def test_what_a_person_said_stands(
    breaker: Breaker, heard: Sequence[Run], rule: Rule, forced: Forced
) -> None:
    """No runs move it; only a person takes it back."""
    said = force(breaker, forced, "deploy at noon", NOON - 3 * HOUR)
    assert judge(said, heard, NOON, rule) is said
    says = standing(said, heard, NOON, rule)
    assert says.places == (0 if forced is Forced.OPEN else None)
    assert says.mode is (Mode.OPEN if forced is Forced.OPEN else Mode.CLOSED)
    assert says.detail == "deploy at noon"


@given(breakers(), runs(NOON), rules())
def test_without_a_rule_there_is_no_breaker(breaker: Breaker, heard: Sequence[Run], rule: Rule) -> None:
    """failures=0 switches it off, also one that was open when it was switched off."""
    off = replace(rule, failures=0)
    assert judge(breaker, heard, NOON, off) is breaker
    if breaker.forced is None:
        assert standing(breaker, heard, NOON, off).places is None


@given(st.lists(st.tuples(st.integers(1, 600), good), max_size=60), rules())
def test_runs_that_all_complete_never_open_it(ended: list[tuple[int, Ended]], rule: Rule) -> None:
    """Whatever the rule."""
    heard = [Run(NOON - ago * MINUTE, how) for ago, how in ended]
    assert judge(UNTOUCHED, heard, NOON, rule) is UNTOUCHED


@given(runs(NOON - 3 * MINUTE))
def test_three_failures_in_a_row_open_it(heard: Sequence[Run]) -> None:
    """Whatever came before: a good past is no credit."""
    latest = runs_of("fff", ending=NOON - SECOND, apart=SECOND)
    opened = judge(UNTOUCHED, [*heard, *latest], NOON, RULE)
    assert (opened.mode, opened.since, opened.trouble_since) == (Mode.OPEN, NOON, NOON)


@given(breakers(), runs(NOON), rules())
def test_an_open_one_has_one_place_at_most(breaker: Breaker, heard: Sequence[Run], rule: Rule) -> None:
    """One canary, or none."""
    says = standing(judge(breaker, heard, NOON, rule), heard, NOON, rule)
    if says.mode is Mode.OPEN:
        assert says.places in (0, 1)
        if says.next_canary_at:
            assert says.places == (says.next_canary_at <= NOON)
    else:
        assert says.next_canary_at is None


@given(runs(NOON + 2 * HOUR, within=2 * HOUR), st.sampled_from(Ended))
def test_places_grow_only_with_successes(heard: Sequence[Run], how: Ended) -> None:
    """While it closes, each run that completes is a place more; one that fails is none."""
    later = NOON + 2 * HOUR
    before = standing(CLOSING, heard, later, RULE).places
    after = standing(CLOSING, [*heard, Run(later, how)], later, RULE).places
    assert before is not None
    assert after == before + how.ok
    assert before == 1 + sum(run.ended.ok for run in heard)


@given(runs(NOON, within=6 * HOUR), rules(), st.integers(0, 6 * 3600))
def test_a_canary_is_never_later_than_the_longest_pause(
    heard: Sequence[Run], rule: Rule, opened_s_ago: int
) -> None:
    """After our last try that failed, or the opening; never sooner than a first pause after the opening."""
    opened_at = NOON - opened_s_ago * SECOND
    told = tally(heard, opened_at)
    opened = replace(
        OPEN, since=opened_at, canaries_failed=told.clones_failed, tried_at=told.last_clone_failure_at
    )
    canary_at = next_canary(opened, told.last_failure_at, rule)
    assert opened_at + rule.first_pause <= canary_at
    assert canary_at <= max(opened_at, told.last_clone_failure_at or opened_at) + rule.longest_pause


@example(100, Rule(first_pause=24 * HOUR, longest_pause=24 * HOUR))
@given(st.integers(0, 100), rules())
def test_pauses_double_and_have_an_end(failed: int, rule: Rule) -> None:
    """However many canaries failed: first, twice, four times ... and never above the longest."""
    opened = replace(OPEN, since=NOON, canaries_failed=failed)
    pause = next_canary(opened, NOON, rule) - NOON
    doubled_s = rule.first_pause.total_seconds() * 2**failed
    assert pause.total_seconds() == min(rule.longest_pause.total_seconds(), doubled_s)


# --- a breaker's life --------------------------------------------------------------------------------


@pytest.mark.parametrize("letters", ["fff", "ffcff", "ffcfcf", "cccfff", "ffgg", "gggggg"])
def test_what_opens_it(letters: str) -> None:
    """Three failures in a row, or as many with successes outweighed; failed clones count half."""
    opened = judge(UNTOUCHED, runs_of(letters), NOON, RULE)
    assert opened.mode is Mode.OPEN
    assert opened.detail.endswith(f"last {len(letters)} runs failed")


@pytest.mark.parametrize("letters", ["", "f", "ff", "fcf", "fcfcf", "ggg", "ffg", "fccfccfcc", "ffcccff"])
def test_what_does_not(letters: str) -> None:
    """Single failures, and one failure with its clones."""
    assert judge(UNTOUCHED, runs_of(letters), NOON, RULE) is UNTOUCHED


def test_what_is_forgotten_does_not_open_it() -> None:
    """Runs from before the memory, and from before it was closed last, say nothing."""
    old = runs_of("fff", ending=NOON - HOUR - SECOND)
    assert judge(UNTOUCHED, old, NOON, RULE) is UNTOUCHED
    closed = Breaker(Mode.CLOSED, NOON - MINUTE, version=4)
    assert judge(closed, runs_of("fff", ending=NOON - 2 * MINUTE), NOON, RULE) is closed
    assert judge(closed, runs_of("fff", apart=SECOND), NOON, RULE).mode is Mode.OPEN


def test_the_canary_waits_for_a_pause_after_the_newest_failure() -> None:
    """Originals that still fail try the same for nothing; but never more than the longest pause."""
    assert standing(OPEN, (), NOON + 59 * SECOND, RULE).places == 0
    assert standing(OPEN, (), NOON + MINUTE, RULE).places == 1
    fails_on = runs_of("f" * 90, ending=NOON + 89 * MINUTE)
    says = standing(OPEN, fails_on[:30], NOON + 29 * MINUTE, RULE)
    assert (says.places, says.next_canary_at) == (0, NOON + 30 * MINUTE)
    assert standing(OPEN, fails_on[:60], NOON + HOUR, RULE).places == 1


def test_each_canary_that_fails_doubles_the_pause() -> None:
    """1, 2, 4 ... minutes after it, an hour at most."""
    heard: list[Run] = []
    waited = []
    now = NOON
    for _ in range(9):
        opened = judge(OPEN, heard, now, RULE)
        canary_at = standing(opened, heard, now, RULE).next_canary_at
        assert canary_at
        waited.append(int((canary_at - now) / MINUTE))
        now = canary_at
        heard.append(Run(now, Ended.CLONE_FAILED))
    assert waited == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert "9 clones failed since 12:00" in standing(judge(OPEN, heard, now, RULE), heard, now, RULE).detail


@pytest.mark.parametrize("how", [Ended.COMPLETED, Ended.CLONE_COMPLETED])
def test_one_success_begins_to_close_it(how: Ended) -> None:
    """Whoever's run it was; the time counts from that run."""
    at = NOON + 5 * MINUTE
    closing = judge(OPEN, [Run(at, how)], at + MINUTE, RULE)
    assert (closing.mode, closing.since, closing.trouble_since) == (Mode.CLOSING, at, NOON)
    assert standing(closing, [Run(at, how)], at + MINUTE, RULE).places == 2


def test_it_is_closed_after_enough_successes() -> None:
    """Sixteen by default; then anything goes and the trouble is over."""
    at = NOON + 20 * MINUTE
    still = judge(CLOSING, runs_of("d" * 15, ending=at), at, RULE)
    assert still is CLOSING
    closed = judge(CLOSING, runs_of("d" * 16, ending=at), at, RULE)
    assert (closed.mode, closed.trouble_since, closed.detail) == (Mode.CLOSED, None, "")
    assert standing(closed, (), at, RULE).places is None


def test_a_quiet_workflow_is_closed_after_half_its_memory() -> None:
    """One success and nothing more for half an hour: nobody waits any more."""
    heard = runs_of("d", ending=NOON)
    assert judge(CLOSING, heard, NOON + 30 * MINUTE, RULE) is CLOSING
    assert judge(CLOSING, heard, NOON + 31 * MINUTE, RULE).mode is Mode.CLOSED


def test_failures_while_it_closes_open_it_again() -> None:
    """And the pauses go on where they were: the trouble is the same."""
    earlier = runs_of("ggg", ending=NOON - 10 * MINUTE)
    heard = [*earlier, *runs_of("cfffc", ending=NOON + 5 * MINUTE)]
    now = NOON + 5 * MINUTE
    reopened = judge(CLOSING, [*heard[:-1]], now, RULE)
    assert (reopened.mode, reopened.since, reopened.trouble_since) == (Mode.OPEN, now, CLOSING.trouble_since)
    assert standing(reopened, heard[:-1], now, RULE).next_canary_at == now + 8 * MINUTE


def test_a_new_failure_does_not_wait_behind_the_old_ones() -> None:
    """Once others complete again, one that failed after the recovery is retried like any other."""
    heard = runs_of("cccc", ending=NOON + 4 * MINUTE)
    now = NOON + 5 * MINUTE
    waited = standing(CLOSING, heard, now, RULE, failed_at=NOON - MINUTE)
    assert (waited.mode, waited.places) == (Mode.CLOSING, 5)
    fresh = standing(CLOSING, heard, now, RULE, failed_at=NOON + MINUTE)
    assert (fresh.mode, fresh.places) == (Mode.CLOSED, None)
    too_early = standing(CLOSING, heard[:1], now, RULE, failed_at=NOON + MINUTE)
    assert too_early.mode is Mode.CLOSING


def test_taking_a_persons_word_back_starts_afresh() -> None:
    """What happened meanwhile neither opens it nor closes it."""
    said = force(OPEN, Forced.CLOSED, "ann: it is fine", NOON)
    back = force(said, None, "", NOON + HOUR)
    assert (back.mode, back.forced, back.since, back.trouble_since) == (Mode.CLOSED, None, NOON + HOUR, None)
    assert back.version == OPEN.version + 2
    assert judge(back, runs_of("ffffff", ending=NOON + 50 * MINUTE), NOON + HOUR, RULE) is back


@given(runs(NOON), st.integers(1, 200))
def test_health_needs_successes(heard: Sequence[Run], minutes: int) -> None:
    """Three, and no more trouble than two failures make."""
    since = NOON - minutes * MINUTE
    told = tally(heard, since)
    assert healthy(heard, since) is (told.successes >= 3 and told.score <= 4)


def test_canaries_are_remembered_beyond_the_newest_runs() -> None:
    """A busy workflow's newest runs go back some minutes; the pause grows all the same."""
    canary = Run(NOON + SECOND, Ended.CLONE_FAILED)
    counted = judge(OPEN, [canary], NOON + SECOND, RULE)
    later = [Run(NOON + n * SECOND, Ended.FAILED) for n in range(1, 201)]
    again = judge(counted, later, NOON + 5 * MINUTE, RULE)
    assert (again.canaries_failed, again.tried_at) == (1, NOON + SECOND)
    assert judge(again, [canary, *later], NOON + 5 * MINUTE, RULE) is again


def test_what_ended_while_nobody_looked_is_judged_in_one_go() -> None:
    """It completed once and failed three times since: it is open, and not first one and then the other."""
    heard = [Run(NOON + MINUTE, Ended.COMPLETED)]
    heard += [Run(NOON + (2 + n) * MINUTE, Ended.FAILED) for n in range(3)]
    judged = judge(OPEN, heard, NOON + 9 * MINUTE, RULE)
    assert judged.mode is Mode.OPEN
    assert judge(judged, heard, NOON + 9 * MINUTE, RULE) is judged
