"""What the benchmark promises of the defaults, and that its days and options are what they say."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from benchmarks.contest import COLUMNS, OURS, Row, Spread, contest, play_day, strategies, summed_up
from benchmarks.days import BEFORE, DAYS, MIDNIGHT, WORKING_DAY, Day, Trouble
from benchmarks.effectiveness import as_text
from benchmarks.options import chosen_days, parser
from benchmarks.targets import beside_the_best, fixed
from worker.replay.score import score

DOWN = Trouble(frozenset({1}), timedelta(hours=3), timedelta(hours=1))
SMALL = Day("small", executions=400, workflows=4, troubles=(DOWN,))


@pytest.mark.parametrize("seed", [1, 7])
def test_the_working_day_meets_its_targets_with_the_defaults(seed: int) -> None:
    """At least 99.5% recovered, at most 0.45 failed clones each, 4 minutes and 60 clones in 5 minutes."""
    world = WORKING_DAY.with_seed(seed)
    cases = play_day(world, strategies(seed)[OURS])
    missed = [each.line for each in fixed(summed_up([score(cases, world.never)])) if not each.met]
    assert missed == []


def test_every_policy_has_the_same_luck() -> None:
    """Two worlds of one seed are one world, whoever asks first; another seed is another."""
    one, other, third = SMALL.with_seed(1), SMALL.with_seed(1), SMALL.with_seed(2)
    assert one.originals == other.originals != third.originals
    failing = next(each for each in one.originals if not each.outcome.ok)
    asked = [one.clone(failing, number, MIDNIGHT) for number in (1, 2, 3)]
    assert [other.clone(failing, number, MIDNIGHT) for number in (3, 2, 1)] == asked[::-1]


def test_the_hour_before_is_played_and_not_counted() -> None:
    """A worker knows the last hour at midnight; the figures are those of the day."""
    world = SMALL.with_seed(1)
    earlier = [each for each in world.originals if each.name.startswith("earlier")]
    assert len(earlier) == round(400 / 24)
    assert all(
        MIDNIGHT - BEFORE <= each.outcome.ended_at - SMALL.run < MIDNIGHT
        for each in earlier
        if each.outcome.ok
    )
    cases = play_day(world, strategies(1)[OURS])
    assert cases
    assert not [case for case in cases if case.original.name.startswith("earlier")]


def test_what_is_down_fails_and_what_can_never_succeed_never_does() -> None:
    """Every run that touches an outage fails; one that can never succeed fails the same way each time."""
    world = replace(SMALL, executions=4000).with_seed(1)
    begins, ends = MIDNIGHT + timedelta(hours=3), MIDNIGHT + timedelta(hours=4)
    touched = [
        each
        for each in world.originals
        if each.workflow == "workflow 1" and begins < each.outcome.ended_at < ends + SMALL.run
    ]
    assert touched
    assert not any(each.outcome.ok for each in touched)
    stuck = next(each for each in world.originals if each.name in world.never)
    ends_as = [world.clone(stuck, n, MIDNIGHT + timedelta(hours=9)).signature for n in (1, 2)]
    assert ends_as[0] is not None
    assert ends_as[0].same_as(ends_as[1])


def test_a_contest_names_everyone_and_says_where_ours_is_worse() -> None:
    """Each column is held against its best peer, and a lost one says what that peer pays."""
    rows = contest(SMALL, [1, 2])
    assert list(rows)[-1] == OURS
    assert len(rows) == 6
    verdicts = beside_the_best(rows)
    assert [each.column for each in verdicts] == list(COLUMNS)
    assert all(each.why for each in verdicts if not each.met)
    told = "\n".join(as_text(SMALL, rows, fixed(rows[OURS]), verdicts))
    assert all(name in told for name in rows)


def test_never_is_worse_than_any_time() -> None:
    """Infinity compares, and is shown as a word."""
    late = next(column for column in COLUMNS if column.key == "late_of_all")
    assert late.no_worse(5.0, math.inf)
    assert not late.no_worse(math.inf, 5.0)
    assert late.as_text(math.inf) == "never"


def test_a_lost_column_is_lost_honestly() -> None:
    """A figure that is worse as it is shown is a ✗; one that only differs beyond that is not."""
    row: Row = {column.key: Spread.of([1.0]) for column in COLUMNS}
    ours = {**row, "wasted": Spread.of([1.004]), "median": Spread.of([1.2])}
    met = {each.column.key: each.met for each in beside_the_best({"peer": row, OURS: ours})}
    assert met == {**dict.fromkeys(row, True), "median": False}


def test_days_come_from_the_command_line() -> None:
    """Without options the four days; with some, one day with the outages as they were written."""
    assert chosen_days(parser().parse_args([])) == list(DAYS.values())
    asked = "--executions 500 --workflows 8 --flaky 0.1 --outage 0-2,5@09:30+45m*0.5 --outage all@23:00+2h"
    (day,) = chosen_days(parser().parse_args(asked.split()))
    assert (day.executions, day.workflows, day.flaky, day.never) == (500, 8, 0.1, 0.01)
    first, second = day.troubles
    assert (sorted(first.workflows), first.share, second.workflows) == (
        [0, 1, 2, 5],
        0.5,
        frozenset(range(8)),
    )
    assert (first.begins, first.lasts) == (timedelta(hours=9, minutes=30), timedelta(minutes=45))


@pytest.mark.parametrize("outage", ["20@10:00+1h", "x", "1@10:00+soon", "1@10:00+1h*0", "1@10:00+1h*2"])
def test_an_outage_that_makes_no_sense_is_refused(outage: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        chosen_days(parser().parse_args(["--outage", outage]))
