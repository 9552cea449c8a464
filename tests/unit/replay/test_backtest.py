"""What a record tells of other times, what it does not, and that the two are told apart."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.unit.replay.worlds import MINUTE, STUCK, at
from worker.domain.breaker import Rule
from worker.domain.budget import Limits
from worker.domain.lineage import Attempt, Lineage, State
from worker.domain.policy import Backoff, Jitter, Policy, PolicyBook, PolicyEntry
from worker.replay.backtest import Backtest, backtest, without_shares
from worker.replay.history import LeftOut, RecordedWorld, read, record_of

ONCE_AFTER_AN_HOUR = Policy(
    max_attempts=1,
    backoff=Backoff.FIXED,
    base_delay=timedelta(hours=1),
    jitter=Jitter.NONE,
    prompt=False,
    strikes=0,
    breaker=Rule(failures=0),
)
EVERY_TWO_MINUTES = replace(ONCE_AFTER_AN_HOUR, max_attempts=20, base_delay=2 * MINUTE)


def clone(minute: float, outcome: str, *, joined: bool = False) -> Attempt:
    """Return one that takes a minute."""
    starts_at = at(minute)
    ended_at = starts_at + MINUTE
    return Attempt(
        f"clone-{minute}", "root", MINUTE, starts_at, starts_at, "201", True, ended_at, outcome, joined
    )


def lineage(root: str, *attempts: Attempt, state: State | None = None, **changes: Any) -> Lineage:
    """Return one that failed at noon, and whose clones did as said."""
    ended = max((each.ended_at for each in attempts if each.ended_at), default=at(0))
    completed = any(each.outcome == "completed" for each in attempts)
    failures = [each.ended_at for each in attempts if each.outcome == "failed" and each.ended_at]
    facts: dict[str, Any] = {
        "state": state or (State.RECOVERED if completed else State.EXHAUSTED),
        "version": 3,
        "workflow_version_uuid": "v1",
        "workflow_uuid": "w",
        "workflow_name": "Claims",
        "fingerprint": "",
        "source": "list",
        "dated": True,
        "root_failed_at": at(0),
        "seen_at": at(0),
        "since": ended,
        "failing": root,
        "last_failed_at": max(failures, default=at(0)),
        "attempts": attempts,
    }
    return Lineage(root, **(facts | changes))


FLAKED = lineage("flaked", clone(1, "failed"), clone(5, "failed"), clone(21, "completed"))
LOST = lineage("lost", clone(1, "failed"), clone(5, "failed"))


def replayed(*lineages: Lineage, policy: Policy = ONCE_AFTER_AN_HOUR) -> Backtest:
    return backtest(lineages, PolicyBook(policy), Limits())


@pytest.mark.parametrize(
    ("minute", "known"), [(0.5, False), (5, False), (5.1, None), (20.9, None), (21, True), (99, True)]
)
def test_a_record_is_read_by_monotony(minute: float, known: bool | None) -> None:
    """It fails up to the last one that failed, completes from the one that completed; unknown between."""
    assert record_of(FLAKED).knows(at(minute)) is known


@pytest.mark.parametrize(("minute", "known"), [(5, False), (6, None), (10_000, None)])
def test_after_what_never_recovered_nobody_knows(minute: float, known: bool | None) -> None:
    """That no later clone was made does not mean that it would have failed."""
    assert record_of(LOST).knows(at(minute)) is known


def test_where_no_clone_was_made_nothing_is_known() -> None:
    """A failure that was only reported may have completed at any time, or never."""
    reported = lineage("reported", reason="report_only")
    assert record_of(reported).knows(at(1)) is None


def test_known_outcomes_give_one_figure() -> None:
    """An hour later the clone is known to complete: at least and at most are the same."""
    result = replayed(FLAKED).all
    assert (result.recorded.recovered, result.recorded.clones, result.recorded.wasted) == (1, 3, 2)
    assert result.failing == result.completing
    assert (result.failing.recovered, result.failing.clones, result.failing.wasted) == (1, 1, 0)
    assert (result.failing.median, result.recorded.median) == (61 * MINUTE, 22 * MINUTE)
    assert result.unknown == (0, 0)


def test_unknown_outcomes_give_two_figures() -> None:
    """One that never recovered does so in one extreme and not in the other; both say on how many it rests."""
    result = replayed(FLAKED, LOST).all
    assert (result.failing.recovered, result.completing.recovered) == (1, 2)
    assert (result.failing.wasted, result.completing.wasted) == (1, 0)
    assert result.unknown == (1, 1)


def test_a_hasty_policy_wastes_what_the_record_says_it_wastes() -> None:
    """Every two minutes: at 2 and 5 it fails for certain; from 8 on it may complete, at 23 it does."""
    result = replayed(FLAKED, policy=EVERY_TWO_MINUTES).all
    assert (result.completing.wasted, result.completing.median) == (2, 9 * MINUTE)
    assert (result.failing.wasted, result.failing.median) == (7, 24 * MINUTE)
    assert result.unknown == (5, 1)


def test_the_truth_lies_between_the_two_figures() -> None:
    """Whatever moment in the gap the workflow recovered at, waste and time are within what is told."""
    told = replayed(FLAKED, policy=EVERY_TWO_MINUTES).all
    for minute in (6, 9, 12, 15, 18):
        truth = lineage(
            "flaked", clone(1, "failed"), clone(minute - 0.5, "failed"), clone(minute, "completed")
        )
        (real,) = (replayed(truth, policy=EVERY_TWO_MINUTES).all,)
        assert real.unknown == (0, 0)
        assert told.completing.wasted <= real.failing.wasted <= told.failing.wasted


def test_what_no_policy_changes_is_left_out_and_counted() -> None:
    """Nothing is made of lineages that are under way, were refused, or recovered by themselves."""
    records, left_out = read(
        [
            FLAKED,
            lineage("a", clone(1, ""), state=State.RUNNING),
            lineage("b", state=State.HELD),
            lineage("c", state=State.REJECTED, reason="not_found"),
            lineage("d", state=State.RECOVERED),
            lineage("e", state=State.REJECTED, reason="policy_disabled"),
        ]
    )
    assert [each.root for each in records] == ["flaked", "e"]
    assert left_out == {LeftOut.UNDER_WAY: 2, LeftOut.REFUSED: 1, LeftOut.NO_CLONE: 1}


def test_a_retry_of_someone_else_is_evidence_and_no_waste() -> None:
    """That it completed tells of the workflow; that it failed cost us nothing."""
    joined = lineage("joined", clone(1, "failed", joined=True), clone(5, "completed", joined=True))
    assert record_of(joined).knows(at(5)) is True
    recorded = replayed(joined).all.recorded
    assert (recorded.recovered, recorded.wasted) == (1, 0)


def test_failures_on_record_as_equal_are_strikes() -> None:
    """Three equal failures end a lineage of another policy early; where they differ, they do not."""
    twice = replace(EVERY_TWO_MINUTES, strikes=2, max_attempts=5)
    attempts = (clone(1, "failed"), clone(5, "failed"), clone(21, "completed"))
    equal = lineage("equal", *attempts, signature=STUCK, strikes=3, struck_since=at(0))
    different = lineage("different", *attempts, signature=STUCK)
    assert replayed(equal, policy=twice).all.completing.clones == 1
    assert replayed(different, policy=twice).all.completing.recovered == 1


@pytest.mark.parametrize(
    ("starts_at", "equal"), [(None, False), (at(0.5), False), (at(4), True), (at(30), True)]
)
def test_an_earlier_failure_has_a_signature_of_its_own(starts_at: datetime | None, equal: bool) -> None:
    """The record keeps the newest failure's and since when they are equal: those before were others."""
    record = record_of(
        lineage(
            "late", clone(1, "failed"), clone(5, "failed"), signature=STUCK, strikes=2, struck_since=at(2)
        )
    )
    world = RecordedWorld([replace(record, failed_at=(at(1.5), at(6)))], unknown_completes=False)
    (original,) = world.originals
    outcome = original.outcome if starts_at is None else world.clone(original, 1, starts_at)
    assert outcome.signature is not None
    assert outcome.signature.same_as(STUCK) is equal


def test_clones_take_as_long_as_the_record_says() -> None:
    """Its own clones' time; the usual one of all others where there was none."""
    reported = lineage("reported", reason="report_only")
    world = RecordedWorld([record_of(FLAKED), record_of(reported)], unknown_completes=True)
    ends = [world.clone(each, 1, at(60)).ended_at for each in world.originals]
    assert ends == [at(61), at(61)]


def test_shares_of_runs_that_nobody_recorded_are_off() -> None:
    """Of every policy and of all together; clones in flight are counted as before."""
    limits = replace(Policy().limits, in_flight=7)
    entry = PolicyEntry("one", frozenset({"w"}), (), Policy(limits=limits))
    book = without_shares(PolicyBook(Policy(), (entry,)))
    assert (book.default.limits.share, book.entries[0].policy.limits) == (
        0,
        replace(limits, share=0, floor=10),
    )
    many = [lineage(f"l{n}", clone(1, "completed")) for n in range(150)]
    result = backtest(many, PolicyBook(ONCE_AFTER_AN_HOUR), Limits())
    assert (result.all.failing.recovered, result.all.failing.busiest) == (150, 150)


def test_workflows_are_told_apart_the_greatest_difference_first() -> None:
    """Per workflow the same figures; together they are the whole."""
    other = lineage("other", clone(1, "completed"), workflow_uuid="x", workflow_name="Appeals")
    result = replayed(FLAKED, LOST, other)
    assert [each.name for each in result.workflows] == ["Claims", "Appeals"]
    assert sum(each.completing.recovered for each in result.workflows) == result.all.completing.recovered == 3
    assert sum(each.recorded.failures for each in result.workflows) == 3
