"""The clock and the play: order, and what a strategy hears when."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.unit.replay.worlds import MINUTE, NOON, SmallWorld, at, completed, failed
from worker.replay.clock import VirtualClock
from worker.replay.play import Stage, play
from worker.replay.score import score
from worker.replay.world import Case, Original, Outcome


class Diary:
    """Clones every failure once, at once, and writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, datetime]] = []
        self.stage: Stage

    def begin(self, stage: Stage) -> None:
        self.stage = stage

    def completed(self, original: Original) -> None:
        self.heard.append(("completed", original.name, self.stage.clock.now))

    def failed(self, case: Case, outcome: Outcome) -> None:
        self.heard.append(("failed", case.original.name, self.stage.clock.now))
        if not case.attempts:
            self.stage.start(case)

    def recovered(self, case: Case) -> None:
        self.heard.append(("recovered", case.original.name, self.stage.clock.now))


def test_the_clock_calls_in_the_order_of_time_then_of_planning() -> None:
    """What is planned first for a moment comes first; what is late comes next; time never goes back."""
    clock, called = VirtualClock(NOON), list[tuple[str, datetime]]()

    def note(what: str) -> None:
        called.append((what, clock.now))

    clock.at(at(2), lambda: note("later"))
    clock.at(at(1), lambda: note("first"))
    clock.at(at(1), lambda: clock.at(NOON, lambda: note("late")))
    clock.at(at(1), lambda: note("second"))
    clock.at(at(9), lambda: note("never"))
    clock.run(until=at(8))
    assert called == [("first", at(1)), ("second", at(1)), ("late", at(1)), ("later", at(2))]


def test_a_play_with_nothing_in_it_is_empty() -> None:
    assert play(SmallWorld([]), Diary()) == []


def test_everything_is_heard_when_it_ends() -> None:
    """Originals and clones, in the order of their ends; a case for each failure."""
    diary = Diary()
    cases = play(SmallWorld([failed("b", 2), failed("a", 1), *completed([5])]), diary)
    assert [each.original.name for each in cases] == ["a", "b"]
    assert diary.heard == [
        ("failed", "a", at(1)),
        ("failed", "b", at(2)),
        ("recovered", "a", at(2)),
        ("recovered", "b", at(3)),
        ("completed", "well-w-5", at(5)),
    ]
    assert [each.ended for each in cases] == ["completed", "completed"]


def test_notice_delays_what_is_heard_and_not_what_happened() -> None:
    """With half a minute to notice the clone comes that much later; the times are those of the runs."""
    diary = Diary()
    (case,) = play(SmallWorld([failed("a", 1)]), diary, notice=MINUTE / 2)
    assert diary.heard == [("failed", "a", at(1.5)), ("recovered", "a", at(3))]
    assert case.recovered_at == at(2.5)


def test_a_score_counts_what_never_recovers_as_waste_but_not_as_recoverable() -> None:
    """Shares are of what can be recovered at all; clones made for the others count all the same."""
    originals = [failed("able", 0), failed("unable", 0), failed("lost", 0)]

    def fate(original: Original, _number: int, starts_at: datetime) -> Outcome:
        return Outcome(starts_at + MINUTE, ok=original.name == "able")

    figures = score(play(SmallWorld(originals, fate), Diary()), frozenset({"unable"}))
    assert (figures.failures, figures.recoverable, figures.recovered) == (3, 2, 1)
    assert (figures.clones, figures.wasted, figures.wasted_each, figures.share) == (3, 2, 2.0, 0.5)
    assert (figures.median, figures.late, figures.late_of_all) == (MINUTE, MINUTE, None)
    assert figures.busiest == 3


def test_a_score_of_nothing_divides_by_nothing() -> None:
    figures = score([])
    assert (figures.share, figures.wasted_each, figures.median, figures.busiest) == (1.0, 0.0, None, 0)
    assert figures.late_of_all is None or figures.late_of_all == timedelta(0)
