"""The simulated system itself: what time does to executions, and what the record tells of the chains."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.behaviours import (
    Behaviour,
    Broken,
    Flaky,
    Healthy,
    Outage,
    PayloadStyle,
    RecoversAfter,
    Timing,
)
from simulator.executions import Execution, Key, Status, Workflow
from simulator.paging import by_cursor, by_offset
from simulator.record import every_execution, summary
from simulator.scenarios import demo
from simulator.world import EndedError, UnknownError, World

START = datetime(2026, 3, 1, tzinfo=UTC)


class FakeClock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock, random.Random(7))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def add(world: World, behaviour: Behaviour, timing: Timing | None = None, name: str = "Claims") -> Workflow:
    return world.add_workflow(
        Workflow(world.new_uuid(), world.new_uuid(), name, behaviour, timing or Timing())
    )


def failed(world: World, workflow: Workflow) -> Execution:
    return world.put(workflow, Status.FAILED, created=seconds(0), ended=seconds(0))


def follow(world: World, execution: Execution) -> Iterator[Execution]:
    """Retry until it completes, yielding every clone."""
    while execution.settled is Status.FAILED:
        execution = world.retry(execution.uuid)
        yield execution


# Life cycle


def test_a_run_goes_through_the_life_cycle_as_the_clock_moves(world: World, clock: FakeClock) -> None:
    """Pending, queued, running, paused, running, completed: each read off the clock, none by a timer."""
    timing = Timing(seconds(6), seconds(6), pending=seconds(1), queued=seconds(1), pauses=True)
    execution = world.start(add(world, Healthy(), timing))
    seen = []
    for _ in range(9):
        seen.append(execution.status(world.now()).value)
        clock.pass_seconds(1)
    assert seen == [
        "pending",
        "queued",
        "running",
        "running",
        "paused",
        "paused",
        "running",
        "running",
        "completed",
    ]
    assert execution.updated_at(world.now()) == START + seconds(8)


def test_a_run_without_duration_ends_in_the_moment_of_its_creation(world: World) -> None:
    """A clone can have failed before the answer that announces it is written."""
    workflow = add(world, Broken())
    clone = world.retry(world.start(workflow).uuid)
    assert clone.status(world.now()) is Status.FAILED
    assert clone.ends_at == clone.created_at
    assert clone.key in world.keys(Status.FAILED)


def test_a_clock_that_steps_back_is_held(world: World, clock: FakeClock) -> None:
    """What runs is not queued again, and nothing new is dated before it."""
    workflow = add(world, Healthy(), Timing(seconds(5), seconds(5), queued=seconds(1)))
    execution = world.start(workflow)
    clock.pass_seconds(2)
    assert execution.status(world.now()) is Status.RUNNING
    clock.pass_seconds(-100)
    assert execution.status(world.now()) is Status.RUNNING
    assert world.start(workflow).created_at == START + seconds(2)


def test_completing_by_hand_ends_once(world: World, clock: FakeClock) -> None:
    """A run ended by hand keeps that end, whatever was planned; a second end is refused."""
    execution = world.start(add(world, Healthy(), Timing(seconds(5), seconds(5))))
    world.complete(execution.uuid, Status.FAILED)
    clock.pass_seconds(10)
    assert world.keys(Status.FAILED) == [execution.key]
    assert world.keys(Status.COMPLETED) == []
    with pytest.raises(EndedError):
        world.complete(execution.uuid, Status.COMPLETED)


# Behaviours


@pytest.mark.parametrize("retries", [1, 2, 5])
def test_recovers_after_n_succeeds_with_the_nth_retry(world: World, retries: int) -> None:
    """A lineage recovers with its n-th clone, not earlier and not later."""
    root = world.start(add(world, RecoversAfter(retries)))
    world.now()
    outcomes = [clone.settled for clone in follow(world, root)]
    assert outcomes == [Status.FAILED] * (retries - 1) + [Status.COMPLETED]


def test_an_outage_fails_the_runs_that_end_inside_it(world: World, clock: FakeClock) -> None:
    """Before the window and from its end on, runs complete."""
    workflow = add(world, Outage(START + seconds(10), START + seconds(20)), Timing(seconds(2), seconds(2)))
    outcome = {}
    for at in range(24):
        execution = world.start(workflow)
        outcome[at] = execution.fails
        clock.pass_seconds(1)
    assert [at for at, fails in outcome.items() if fails] == list(range(8, 18))


def test_flaky_fails_about_as_often_as_told_and_repeats_with_the_seed(clock: FakeClock) -> None:
    """A seed gives the same outcomes again; 2,000 runs at 0.3 lie within five standard deviations."""

    def outcomes() -> list[bool]:
        world = World(clock, random.Random(11))
        workflow = add(world, Flaky(0.3))
        return [world.start(workflow).fails for _ in range(2_000)]

    first = outcomes()
    assert first == outcomes()
    assert 600 - 5 * 20.5 < sum(first) < 600 + 5 * 20.5


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Flaky(1.1), "between 0 and 1"),
        (lambda: RecoversAfter(-1), "0 or more"),
        (lambda: Timing(seconds(2), seconds(1)), "shortest must not exceed"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(make: Callable[[], object], complaint: str) -> None:
    """A wrong rule stops where it is written."""
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.parametrize(
    ("style", "distinct"), [(PayloadStyle.DISTINCTIVE, 20), (PayloadStyle.EQUAL, 1), (PayloadStyle.NULL, 1)]
)
def test_payloads_can_be_told_apart_or_not(world: World, style: PayloadStyle, distinct: int) -> None:
    """Distinctive payloads differ between roots, equal ones do not; a clone carries its root's."""
    workflow = world.add_workflow(Workflow("w", "v", "Claims", Broken(), payloads=style))
    roots = [world.start(workflow) for _ in range(20)]
    assert len({repr(each.payload) for each in roots}) == distinct
    assert all(world.retry(each.uuid).payload == each.payload for each in roots)


# Retrying


def test_a_retry_clones_and_leaves_the_failed_one_failed(world: World) -> None:
    """The old execution stays failed for ever; the clone relation is in the record only."""
    root = failed(world, add(world, Healthy()))
    clone = world.retry(root.uuid)
    assert root.settled is Status.FAILED
    assert (clone.parent, clone.root, clone.retry) == (root.uuid, root.uuid, 1)
    assert clone.workflow.version_uuid == root.workflow.version_uuid


def test_a_retry_of_a_live_execution_stops_it_and_is_counted(world: World) -> None:
    """The API clones whatever it is asked to; only the record knows that nothing had failed."""
    live = world.start(add(world, Healthy(), Timing(seconds(60), seconds(60))))
    clone = world.retry(live.uuid)
    assert live.settled is Status.FAILED
    assert clone.status(world.now()) is Status.RUNNING
    assert summary(world)["retries_of_unfailed"] == 1


def test_a_retry_in_place_runs_the_same_execution_again(world: World, clock: FakeClock) -> None:
    """The uuid stays, it leaves the list of failures, and its second run ends by the rules."""
    root = failed(world, add(world, RecoversAfter(1), Timing(seconds(3), seconds(3))))
    assert world.retry(root.uuid, in_place=True) is root
    assert world.keys(Status.FAILED) == []
    assert world.keys(Status.RUNNING) == [root.key]
    clock.pass_seconds(3)
    assert world.keys(Status.COMPLETED) == [root.key]
    record = summary(world)
    assert (record["runs_again"], record["clones"], record["recovered"], record["max_attempts"]) == (
        1,
        0,
        1,
        1,
    )


def test_a_replaced_run_does_not_end_the_one_that_replaced_it(world: World, clock: FakeClock) -> None:
    """Retried in place after 1 of 5 seconds, it ends at second 6 and not when its first run was to end."""
    live = world.start(add(world, Healthy(), Timing(seconds(5), seconds(5))))
    clock.pass_seconds(1)
    world.retry(live.uuid, in_place=True)
    clock.pass_seconds(4.5)
    assert live.status(world.now()) is Status.RUNNING
    clock.pass_seconds(0.5)
    assert live.status(world.now()) is Status.COMPLETED


def test_an_unknown_execution_cannot_be_retried(world: World) -> None:
    """The caller is told that there is none."""
    with pytest.raises(UnknownError):
        world.retry("nobody")


# The record


def test_the_record_tells_duplicates_losses_and_recoveries(world: World) -> None:
    """One recovered chain, one cloned twice, one never retried, one healthy: each counted as what it is."""
    recovering = add(world, RecoversAfter(2), name="recovers")
    broken = add(world, Broken(), name="broken")
    world.start(add(world, Healthy(), name="healthy"))
    recovered = world.start(recovering)
    list(follow(world, recovered))
    twice = world.start(broken)
    clones = [world.retry(twice.uuid).uuid for _ in range(2)]
    lost = world.start(broken)

    record = summary(world)

    assert record["duplicates"] == [{"execution_uuid": twice.uuid, "clones": clones}]
    assert record["never_retried"] == [lost.uuid]
    assert set(record["failed_ends"]) == {*clones, lost.uuid}
    assert record["chain_ends"] == {"completed": 1, "failed": 3, "live": 0}
    assert (record["roots"], record["failed_roots"], record["clones"]) == (4, 3, 4)
    assert (record["recovered"], record["attempts"], record["max_attempts"]) == (1, {"0": 1, "2": 2}, 2)
    assert [each["parent"] for each in every_execution(world)].count(twice.uuid) == 2


# Listing


def test_backdated_failures_stand_where_they_were_created(world: World) -> None:
    """A failure from an hour ago is not at the head of the list, even if it ended just now."""
    workflow = add(world, Healthy())
    new = failed(world, workflow)
    old = world.put(workflow, Status.FAILED, created=seconds(3600), ended=seconds(0))
    assert world.keys(Status.FAILED) == [old.key, new.key]
    assert old.updated_at(world.now()) == START


@given(
    ages=st.lists(st.integers(0, 20), max_size=40),
    limit=st.integers(1, 7),
    newest_first=st.booleans(),
)
def test_pages_cover_the_list_once_in_order(ages: list[int], limit: int, newest_first: bool) -> None:
    """By offset and by cursor, the pages together are the list, whatever the order, size and ties."""
    keys: list[Key] = sorted((START - seconds(age), seq) for seq, age in enumerate(ages))
    by_offsets: list[Key] = []
    while page := by_offset(keys, len(by_offsets), limit, newest_first=newest_first).keys:
        by_offsets += page
    by_cursors: list[Key] = []
    cursor: str | None = None
    while cursor or not by_cursors:
        found = by_cursor(keys, cursor, limit, newest_first=newest_first)
        by_cursors += found.keys
        cursor = found.next_cursor
        assert len(by_cursors) <= len(keys)
        if cursor is None:
            break
    assert by_offsets == by_cursors == (keys[::-1] if newest_first else keys)


@pytest.mark.parametrize("cursor", ["nonsense", "!!!", "MjAyNi0wMS0wMSAx", "é"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    """A cursor that the list did not hand out is an error, not the first page."""
    with pytest.raises(ValueError, match="not a cursor"):
        by_cursor([], cursor, 10, newest_first=True)


def test_a_page_of_a_large_world_costs_no_more_than_of_a_small_one(clock: FakeClock) -> None:
    """Among 50,000 executions a page is found without walking them all: as fast as among 500.

    Measured as CPU time, so that a busy machine does not decide. Walking them all would cost 100 times
    as much; four times is forgiven.
    """

    def cost_s(executions: int) -> float:
        world = World(clock, random.Random(1))
        workflow = add(world, Broken())
        for _ in range(executions):
            world.start(workflow)
        before = time.process_time()
        for _ in range(500):
            page = by_offset(world.keys(Status.FAILED), 100, 100, newest_first=True)
            assert len([world.at(key) for key in page.keys]) == 100
        return time.process_time() - before

    assert cost_s(50_000) < 4 * cost_s(500)


# Scenario


def test_arrivals_depend_on_nobody(clock: FakeClock) -> None:
    """A minute of the demo, watched and retried every second or left alone: the same failures arrive."""
    watched, left_alone = (World(clock, random.Random(5)) for _ in range(2))
    demo(watched)
    demo(left_alone)
    for _ in range(60):
        clock.pass_seconds(1)
        for key in watched.keys(Status.FAILED)[-1:]:
            watched.retry(watched.at(key).uuid)

    def roots(world: World) -> list[tuple[object, ...]]:
        return [
            (each.uuid, each.created_at, each.ends_at, each.fails, each.payload)
            for each in world.executions()
            if each.parent is None
        ]

    assert len(roots(left_alone)) > 60
    assert roots(watched) == roots(left_alone)


def test_a_minute_of_the_demo_shows_what_it_promises(world: World, clock: FakeClock) -> None:
    """With failures retried every 2 s, up to 4 times: recoveries with one and with more attempts, chains
    that used up all four, an outage that ended, and about one root failure a second.
    """
    demo(world)
    for _ in range(30):
        clock.pass_seconds(2)
        for key in list(world.keys(Status.FAILED)):
            execution = world.at(key)
            if not execution.clones and execution.retry < 4:
                world.retry(execution.uuid)
    record = summary(world)
    everyone = list(world.executions())
    exhausted = [each for each in everyone if each.retry == 4 and each.settled is Status.FAILED]
    recovered_at = {each.retry for each in everyone if each.parent and each.settled is Status.COMPLETED}
    portal = [each for each in everyone if each.workflow.name.startswith("Remittance")]
    assert 30 <= record["failed_roots"] <= 90
    assert exhausted
    assert {1, 3} <= recovered_at
    assert any(each.settled is Status.FAILED for each in portal)
    assert any(each.settled is Status.COMPLETED for each in portal if each.ends_at > START + seconds(40))
    assert len({each.workflow.name for each in everyone}) == 8


def test_arrivals_can_be_stopped(world: World, clock: FakeClock) -> None:
    """Rate 0 ends the arrivals; those that came stay."""
    workflow = add(world, Healthy())
    world.let_arrive(workflow, 10)
    clock.pass_seconds(10)
    arrived = len(list(world.executions()))
    world.let_arrive(workflow, 0)
    clock.pass_seconds(100)
    assert 50 < arrived == len(list(world.executions()))
