"""Limits of clones: what follows from runs, which limit speaks first, and how many more may go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.domain.budget import (
    TROUBLED_SHARE,
    UNLIMITED,
    Caps,
    Limit,
    Limits,
    Usage,
    WorkflowLimits,
    caps,
    free,
    more,
    objection,
)

counts = st.integers(0, 60)
shares = st.just(0.0) | st.floats(0.001, 10)
used = st.integers(0, 12)
usages = st.builds(Usage, counts, counts, counts, used, used, used, used, used)
of_one = st.builds(WorkflowLimits, shares, st.integers(0, 30), st.integers(0, 20))
of_all = st.builds(
    Limits,
    share=shares,
    floor=st.integers(0, 60),
    pace=shares,
    pace_floor=st.integers(1, 100),
    in_flight=st.integers(0, 50),
)
places = st.none() | st.integers(0, 20)
BUSY = Usage(runs=40, all_runs=1_000, busiest=30)


@given(of_one, of_all, usages, places)
def test_there_is_no_objection_while_something_is_free(
    mine: WorkflowLimits, everyones: Limits, usage: Usage, room: int | None
) -> None:
    """The two answers never contradict each other."""
    found = caps(mine, everyones, usage, room)
    assert (objection(found, usage) is None) == (free(found, usage) > 0)


@example(WorkflowLimits(), Limits(), Usage(made=9, all_made=50), None)
@example(WorkflowLimits(), Limits(), Usage(made=5, all_made=200), None)
@given(of_one, of_all, usages, places)
def test_as_many_as_are_free_may_go_and_no_more(
    mine: WorkflowLimits, everyones: Limits, usage: Usage, room: int | None
) -> None:
    """One by one, all of them go without an objection, and the next one meets one."""
    found = caps(mine, everyones, usage, room)
    left = free(found, usage)
    if left > 300:
        return
    for _ in range(left):
        assert objection(found, usage) is None
        usage = more(usage, 1, 1)
    assert objection(found, usage)


@given(of_one, of_all, usages, usages, places)
def test_more_runs_never_mean_fewer_clones(
    mine: WorkflowLimits, everyones: Limits, usage: Usage, added: Usage, room: int | None
) -> None:
    """Every cap grows with what the platform does, or stays."""
    busier = replace(
        usage,
        runs=usage.runs + added.runs,
        all_runs=usage.all_runs + added.all_runs,
        busiest=usage.busiest + added.busiest,
    )
    before, after = caps(mine, everyones, usage, room), caps(mine, everyones, busier, room)
    for less, later in ((before.made, after.made), (before.all_made, after.all_made)):
        assert (less is None and later is None) or (less or 0) <= (later or 0)
    assert (before.made_lately or 0) <= (after.made_lately or 0)
    assert free(before, usage) <= free(after, usage)


@given(of_one, of_all, usages, places)
def test_clones_only_use_up(mine: WorkflowLimits, everyones: Limits, usage: Usage, room: int | None) -> None:
    """Another clone never makes room: where there was an objection there still is one."""
    found = caps(mine, everyones, usage, room)
    assert free(found, more(usage, 1, 1)) <= free(found, usage)
    if objection(found, usage):
        assert objection(found, more(usage, 1, 1))


@given(of_one, of_all, usages)
def test_clones_of_others_do_not_use_up_what_is_the_workflows(
    mine: WorkflowLimits, everyones: Limits, usage: Usage
) -> None:
    """Below its floor only places, flight and pace hold a workflow up, however many others make."""
    found = caps(mine, everyones, usage, None)
    if usage.made < mine.floor:
        flooded = replace(usage, all_made=10**6)
        assert objection(found, flooded) is objection(found, usage)
        assert objection(found, flooded) in (None, Limit.WORKFLOW_IN_FLIGHT, Limit.IN_FLIGHT, Limit.PACE)


@given(usages)
def test_everything_switched_off_limits_nothing(usage: Usage) -> None:
    """Zero is "no limit" everywhere."""
    off = caps(WorkflowLimits(share=0, in_flight=0), Limits(share=0, pace=0, in_flight=0), usage, None)
    assert objection(off, usage) is None
    assert free(off, usage) == UNLIMITED


@given(of_one, of_all, usages)
def test_no_place_is_no_clone(mine: WorkflowLimits, everyones: Limits, usage: Usage) -> None:
    """What the breaker says comes first, whatever the limits are."""
    found = caps(mine, everyones, usage, 0)
    assert objection(found, usage) is Limit.WORKFLOW_FAILING
    assert free(found, usage) == 0


def test_the_caps_are_shares_with_a_floor() -> None:
    """The defaults: two clones for a run of the workflow, one for a run of all, the busiest five minutes."""
    assert caps(WorkflowLimits(), Limits(), BUSY, None) == Caps(
        in_flight=None, all_in_flight=None, made=80, all_made=1000, made_lately=30, floor=10
    )
    assert caps(WorkflowLimits(), Limits(), Usage(), None) == Caps(
        in_flight=None, all_in_flight=None, made=10, all_made=100, made_lately=20, floor=10
    )
    limited = caps(WorkflowLimits(in_flight=3), Limits(in_flight=7), BUSY, 2)
    assert (limited.in_flight, limited.all_in_flight, limited.places) == (3, 7, 2)


def test_what_waited_leaves_some_of_the_pace_to_others() -> None:
    """A workflow that comes back after trouble may use nine tenths of it."""
    assert caps(WorkflowLimits(), Limits(), BUSY, 1).made_lately == 30 * TROUBLED_SHARE == 27


@pytest.mark.parametrize(
    ("usage", "limit"),
    [
        (Usage(in_flight=2, trying=2, made=99, made_lately=99), Limit.WORKFLOW_FAILING),
        (Usage(in_flight=1, all_in_flight=9, made=99), Limit.WORKFLOW_IN_FLIGHT),
        (Usage(all_in_flight=4, made=99, all_made=99), Limit.IN_FLIGHT),
        (Usage(made=5, all_made=99, made_lately=99), Limit.WORKFLOW_BUDGET),
        (Usage(made=4, all_made=6, made_lately=99), Limit.BUDGET),
        (Usage(made=3, all_made=99, made_lately=7), Limit.PACE),
        (Usage(made=3, all_made=99, made_lately=6), None),
    ],
)
def test_the_most_particular_limit_speaks_first(usage: Usage, limit: Limit | None) -> None:
    """People read the closest reason; below the floor no budget speaks; the pace does."""
    cap = Caps(
        in_flight=None if limit is Limit.WORKFLOW_FAILING else 1,
        all_in_flight=4,
        made=5,
        all_made=6,
        made_lately=7,
        floor=4,
        places=2,
    )
    assert objection(cap, usage) is limit


def test_a_flood_elsewhere_leaves_every_workflow_its_floor() -> None:
    """The budget of all is used up by one workflow; another may still make its ten."""
    found = caps(WorkflowLimits(), Limits(), Usage(runs=1, all_runs=100, all_made=100), None)
    assert objection(found, Usage(made=9, all_made=5_000)) is None
    assert objection(found, Usage(made=10, all_made=5_000)) is Limit.WORKFLOW_BUDGET
    assert objection(found, Usage(made=10, all_made=99)) is Limit.WORKFLOW_BUDGET
