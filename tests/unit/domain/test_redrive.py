"""How a redrive goes: the canary, the rate, when it stops, when it is over. Values in, values out."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.redrive import (
    ENOUGH,
    MOST_CANARIES,
    WINDOW,
    Move,
    Outcome,
    Phase,
    Release,
    Standing,
    Status,
    Tally,
    Wait,
    begun,
    said,
    step,
)
from worker.domain.redrive_plan import Plan, expected, in_order

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLAN = Plan("r1", "ann", "because", "all", 100, NOW, canary=5, rate=10.0, stop_share=0.5, in_flight=20)
CANARY = Standing(Status.RUNNING, Phase.CANARY, NOW)
REST = Standing(Status.RUNNING, Phase.REST, NOW)


def tally(pending: int = 95, flying: int = 0, recent: str = "", **changes: Any) -> Tally:
    verdicts = tuple(sign == "+" for sign in recent)
    return replace(Tally(pending, flying, flying, {}, verdicts, tokens=20.0), **changes)


@pytest.mark.parametrize(
    ("standing", "of", "then"),
    [
        (CANARY, tally(100), Release(5)),
        (CANARY, tally(95, flying=5), Wait()),
        (CANARY, tally(95, flying=3, recent="++"), Wait()),
        (
            CANARY,
            tally(95, flying=2, recent="+-"),
            Release(1),
        ),  # one was skipped: another one goes in its place
        (CANARY, tally(100, tokens=2.9), Release(2)),
        (CANARY, tally(0, flying=2, recent="+"), Wait()),  # fewer than a canary: all of them are one
        (REST, tally(95, flying=20), Wait()),
        (REST, tally(95, flying=18), Release(2)),
        (REST, tally(3, recent="+++++"), Release(3)),
        (REST, tally(95, tokens=0.9), Wait()),
        (REST, tally(0, flying=1), Wait()),
        (REST, tally(95, recent="----"), Release(20)),  # too few to judge by
    ],
)
def test_what_comes_next(standing: Standing, of: Tally, then: Release | Wait) -> None:
    """Nothing beyond the canary before all of it was judged, then as rate, places and judgement allow."""
    assert step(PLAN, standing, of) == then


@pytest.mark.parametrize(
    ("standing", "of", "status", "phase", "why"),
    [
        (CANARY, tally(95, recent="+++--"), Status.RUNNING, Phase.REST, "3 of 5 canaries recovered"),
        (CANARY, tally(95, recent="---"), Status.STOPPED, Phase.CANARY, "3 of 5 canaries failed again"),
        (CANARY, tally(95, flying=2, recent="---"), Status.STOPPED, Phase.CANARY, "3 of 5 canaries"),
        (CANARY, tally(0, recent="--"), Status.FINISHED, Phase.CANARY, "every item"),
        (REST, tally(90, recent="++---"), Status.STOPPED, Phase.REST, "3 of the last 5 failed again"),
        (REST, tally(0, recent="+"), Status.FINISHED, Phase.REST, "every item"),
    ],
)
def test_it_moves_by_itself(standing: Standing, of: Tally, status: Status, phase: Phase, why: str) -> None:
    """Passed, stopped or finished, with the figures; the canary is lost as soon as it cannot be won."""
    move = step(PLAN, standing, of)
    assert isinstance(move, Move)
    assert (move.status, move.phase) == (status, phase)
    assert move.why.startswith(why)


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.RUNNING])
def test_nothing_is_released_unless_it_runs(status: Status) -> None:
    """Paused, stopped, cancelled and finished ones only follow what is under way."""
    assert step(PLAN, replace(REST, status=status), tally(95)) == Wait()
    assert step(PLAN, replace(CANARY, status=status), tally(95)) == Wait()


def test_a_share_of_one_never_stops_and_a_share_of_none_at_the_first_failure() -> None:
    """The ends of the scale mean what they say."""
    never, strict = replace(PLAN, stop_share=1.0), replace(PLAN, stop_share=0.0)
    assert step(never, REST, tally(95, recent="-" * WINDOW)) == Release(20)
    assert step(never, CANARY, tally(95, recent="-----")) == Move(
        Status.RUNNING, Phase.REST, "0 of 5 canaries recovered"
    )
    stopped = step(strict, CANARY, tally(95, recent="-"))
    assert isinstance(stopped, Move)
    assert stopped.status is Status.STOPPED


def test_a_person_resumes_where_it_was_or_with_a_new_canary() -> None:
    """After a stop what was heard before counts no more; after a pause it does."""
    paused = replace(REST, status=Status.PAUSED, version=3, round=2)
    again = said(paused, PLAN, Status.RUNNING, by="bob", why="ok", now=NOW)
    assert (again.phase, again.round, again.version) == (Phase.REST, 2, 4)
    stopped = replace(paused, status=Status.STOPPED)
    anew = said(stopped, PLAN, Status.RUNNING, by="bob", why="ok", now=NOW)
    assert (anew.phase, anew.round, anew.status) == (Phase.CANARY, 3, Status.RUNNING)
    without = said(stopped, replace(PLAN, canary=0), Status.RUNNING, by="b", why="", now=NOW)
    assert without.phase is Phase.REST


@pytest.mark.parametrize(
    "changes",
    [{"canary": -1}, {"in_flight": 0}, {"stop_share": 1.1}, {"rate": 0.0}, {"rate": float("inf")}],
)
def test_terms_that_would_never_go_or_never_end_are_refused(changes: dict[str, Any]) -> None:
    """Whoever builds a plan learns at once."""
    with pytest.raises(ValueError, match="takes"):
        replace(PLAN, **changes)


@dataclass
class World:
    """A redrive in time that is only counted: each clone runs for a while and ends as a coin says."""

    plan: Plan
    seed: int
    recovers: float
    now: datetime = NOW
    standing: Standing = CANARY
    pending: int = 0
    flying: list[tuple[datetime, int]] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)
    recent: list[bool] = field(default_factory=list)
    tokens: tuple[float, datetime] | None = None
    released: list[datetime] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.pending = self.plan.total
        self.standing = begun(self.plan)

    def left(self) -> float:
        left, since = self.tokens or (None, None)
        return self.plan.tokens(left, since, self.now)

    def tick(self, after: timedelta) -> None:
        """Let time pass, then let it take its turn until it waits."""
        self.now += after
        for ends_at, of_round in [each for each in self.flying if each[0] <= self.now]:
            self.flying.remove((ends_at, of_round))
            verdict = self.dice.random() < self.recovers
            self.ended.append(verdict)
            if of_round == self.standing.round:
                self.recent = [*self.recent, verdict][-MOST_CANARIES:]
        while True:
            of_round = sum(each == self.standing.round for _, each in self.flying)
            counts = {Outcome.RECOVERED: sum(self.ended), Outcome.FAILED: self.ended.count(False)}
            told = Tally(self.pending, len(self.flying), of_round, counts, tuple(self.recent), self.left())
            match step(self.plan, self.standing, told):
                case Wait():
                    return
                case Move(status, phase):
                    self.standing = replace(
                        self.standing, status=status, phase=phase, version=self.standing.version + 1
                    )
                case Release(count):
                    assert 0 < count <= self.pending
                    self.pending -= count
                    self.tokens = self.left() - count, self.now
                    self.released += [self.now] * count
                    lasts = timedelta(seconds=self.dice.uniform(0, 60))
                    self.flying += [(self.now + lasts, self.standing.round)] * count


plans = st.builds(
    lambda **terms: replace(PLAN, **terms),
    total=st.integers(1, 200),
    canary=st.integers(0, 10) | st.integers(11, 220),
    rate=st.floats(0.01, 50),
    stop_share=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    in_flight=st.integers(1, 60),
)


@settings(max_examples=150, deadline=None)
@given(
    plan=plans,
    seed=st.integers(0, 10**6),
    recovers=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    pauses=st.lists(st.floats(0.05, 300), max_size=60),
)
def test_whatever_happens_it_keeps_its_word(
    plan: Plan, seed: int, recovers: float, pauses: list[float]
) -> None:
    """Never more than the rate allows in any span, than may be in flight, or than an unjudged canary."""
    world = World(plan, seed, recovers)
    for pause in pauses:
        world.tick(timedelta(seconds=pause))
        if plan.canary and world.standing.phase is Phase.CANARY:
            assert len(world.released) <= plan.canary
        assert len(world.flying) <= plan.in_flight
        assert world.pending + len(world.flying) + len(world.ended) == plan.total
    for first, start in enumerate(world.released):
        for last in range(first, len(world.released)):
            span = (world.released[last] - start).total_seconds()
            assert last - first + 1 <= plan.burst + plan.rate * span + 1e-6
    if world.standing.status is Status.STOPPED:
        assert plan.stop_share < 1
        assert world.ended.count(False) >= 1
    if recovers == 1.0:
        assert world.standing.status is not Status.STOPPED


@settings(max_examples=60, deadline=None)
@given(plan=plans, seed=st.integers(0, 10**6), recovers=st.sampled_from([0.0, 0.5, 1.0]))
def test_it_always_comes_to_an_end(plan: Plan, seed: int, recovers: float) -> None:
    """With time passing it finishes or stops; what fails always is stopped by the canary or soon after."""
    world = World(plan, seed, recovers)
    for _ in range(5 * plan.total + 20):
        world.tick(timedelta(seconds=120))
        if world.standing.status is not Status.RUNNING:
            break
    assert world.standing.status in (Status.FINISHED, Status.STOPPED)
    if recovers == 0.0 and plan.stop_share < 1 and plan.canary:
        assert len(world.released) <= plan.canary
    if recovers == 0.0 and plan.stop_share < 1 and not plan.canary and plan.in_flight >= ENOUGH:
        assert len(world.released) <= ENOUGH + plan.in_flight


@given(st.dictionaries(st.sampled_from("uvwxyz"), st.integers(1, 30), min_size=1), st.integers(0, 12))
def test_the_order_has_every_item_once_and_the_canary_of_every_workflow(
    sizes: dict[str, int], canary: int
) -> None:
    """With no more workflows than canaries, each of them has one among the first."""
    by_workflow = {name: [f"{name}{n}" for n in range(size)] for name, size in sizes.items()}
    oldest_first = [each for items in by_workflow.values() for each in items]
    order = list(in_order(by_workflow, oldest_first, canary))
    assert sorted(order) == sorted(oldest_first)
    assert len({each[0] for each in order[:canary]}) == min(len(sizes), canary)


def test_how_long_it_takes_goes_by_whatever_is_slower() -> None:
    """The rate where runs are short, what may be under way where they are long; unknown runs take no time."""
    minute = timedelta(minutes=1)
    assert expected(PLAN, 620, None) == minute
    assert expected(PLAN, 620, timedelta(seconds=1)) == minute + timedelta(seconds=2)
    assert expected(PLAN, 600, 10 * minute) == (30 + 1) * 10 * minute
    assert expected(replace(PLAN, canary=0), 1, minute) == minute
