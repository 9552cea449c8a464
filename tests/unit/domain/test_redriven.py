"""What becomes of one item of a redrive, by its lineage alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.examples import NOW, PLAIN, discovered, execution, running, submitting
from worker.domain import orders, transitions
from worker.domain.breaker import Breaker, Forced
from worker.domain.executions import Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import GiveUp, GiveUpReason
from worker.domain.redrive import Outcome
from worker.domain.redriven import Chosen, Item, mark, outcome, paused_by, why_not

ENDED = GiveUp(GiveUpReason.ATTEMPTS_USED_UP, "all are made")
LATER = NOW + timedelta(minutes=5)
SECOND = timedelta(seconds=1)


def dead() -> Lineage:
    return discovered(decision=ENDED).after


def chosen(lineage: Lineage) -> Chosen:
    return Chosen(lineage.root, lineage.since, 0)


def ordered(lineage: Lineage, redrive: str = "r1") -> tuple[Item, Lineage]:
    item = Item(chosen(lineage), lineage.version, lineage.made, 1, LATER, released=True)
    return item, orders.retry(lineage, detail=f"{mark(redrive)}ann: why", now=LATER).after


def failed_again(lineage: Lineage) -> Lineage:
    clone = execution(lineage.newest.clone, n_steps=4)
    return transitions.fail_again(
        lineage, clone, ENDED, failed_at=LATER, now=LATER, policy=PLAIN, policy_name="default"
    ).after


def test_what_was_chosen_may_go_and_what_moved_on_may_not() -> None:
    """It is the verdict that was chosen: the same lineage with another one is not."""
    lineage = dead()
    assert why_not(chosen(lineage), lineage, "") == ""
    assert "not on record" in why_not(chosen(lineage), None, "")
    assert why_not(chosen(lineage), lineage, "bob: no") == "its workflow is paused (bob: no)"
    again = failed_again(running(ordered(lineage)[1], now=LATER).after)
    assert again.state is State.EXHAUSTED
    assert "it moved on since it was chosen: exhausted" in why_not(chosen(lineage), again, "")


def test_one_that_may_make_a_second_clone_is_skipped_with_the_words_of_the_order() -> None:
    """A clone that was never seen to end may still be running."""
    watched = running(discovered().after).after
    lost = transitions.stop_watching(watched, reason="never_ended", detail="", now=LATER).after
    assert "never seen to end" in why_not(chosen(lost), lost, "")


def test_it_is_under_way_until_its_clone_has_ended() -> None:
    """Scheduled, submitting, unresolved and running: nothing is known yet."""
    item, after = ordered(dead())
    sent = submitting(after, now=LATER).after
    doubted = transitions.unresolve(sent, reason="read_timeout", detail="", now=LATER).after
    for lineage in (after, sent, doubted, running(after, now=LATER).after):
        assert outcome(item, lineage) is None


def test_its_clone_decides_whatever_comes_next() -> None:
    """Completed is recovered; failed is failed again, with where, and with what the policy does then."""
    item, after = ordered(dead())
    watched = running(after, now=LATER).after
    recovered = outcome(item, transitions.recover(watched, now=LATER, ended_at=LATER).after)
    assert recovered
    assert (recovered.outcome, recovered.execution) == (Outcome.RECOVERED, "clone-1")
    failed = outcome(item, failed_again(watched))
    assert failed
    assert failed.outcome is Outcome.FAILED
    assert (
        failed.why
        == "its clone clone-1 failed again at step 4; now exhausted (attempts_used_up: all are made)"
    )
    lost = outcome(item, transitions.stop_watching(watched, reason="too_long", detail="", now=LATER).after)
    assert lost
    assert (lost.outcome, lost.execution) == (Outcome.LOST, "clone-1")


def test_a_later_attempt_changes_nothing() -> None:
    """The first clone after the release is what is told, also when the policy went on meanwhile."""
    item, after = ordered(dead())
    again = failed_again(running(after, now=LATER).after)
    once_more = orders.retry(again, detail="bob: once more", now=LATER).after
    second = transitions.recover(
        running(once_more, "clone-2", now=LATER).after, now=LATER, ended_at=LATER
    ).after
    found = outcome(item, second)
    assert found
    assert (found.outcome, found.execution) == (Outcome.FAILED, "clone-1")


def test_a_run_of_someone_else_that_took_its_place_decides() -> None:
    """It was retried by hand at Kinetic between the order and the call: that run is what there is."""
    item, after = ordered(dead())
    run = execution("theirs", Status.RUNNING, created_at=LATER)
    joined = transitions.join(after, run, made_at=LATER, now=LATER + SECOND, evidence="payload").after
    assert outcome(item, joined) is None
    ended = outcome(item, transitions.recover(joined, now=LATER, ended_at=LATER).after)
    assert ended
    assert ended.outcome is Outcome.RECOVERED
    assert "someone else" in ended.why


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda it: transitions.reject(it, reason="not_found", detail="", now=LATER).after, Outcome.LOST),
        (lambda it: orders.cancel(it, detail="bob: no", now=LATER).after, Outcome.TAKEN_OVER),
        (lambda it: orders.hold(it, detail="bob: wait", now=LATER).after, Outcome.TAKEN_OVER),
        (lambda it: replace(it, order=None), Outcome.TAKEN_OVER),
        (lambda it: transitions.recover(it, now=LATER, ended_at=LATER).after, Outcome.RECOVERED),
        (lambda _: None, Outcome.TAKEN_OVER),
    ],
)
def test_other_ends_are_told_as_what_they_are(end: object, expected: Outcome) -> None:
    """Refused by Kinetic is no recovery; a person's other decision says nothing of how it goes."""
    item, after = ordered(dead())
    found = outcome(item, end(after))  # type: ignore[operator]  # one of the lambdas above
    assert found
    assert found.outcome is expected


def test_a_call_that_a_person_has_to_decide_about_came_to_nothing() -> None:
    """Held in doubt may last for days: the canary does not wait for it."""
    item, after = ordered(dead())
    doubted = transitions.unresolve(
        submitting(after, now=LATER).after, reason="x", detail="", now=LATER
    ).after
    found = outcome(item, transitions.hold(doubted, reason="unclear", detail="", now=LATER).after)
    assert found
    assert found.outcome is Outcome.LOST


def test_a_pause_of_a_workflow_counts_until_its_end() -> None:
    """Forced open by a person, up to a time; nothing else is a pause."""
    paused = Breaker(forced=Forced.OPEN, detail="bob: no", forced_until=LATER)
    assert paused_by(paused, NOW) == "bob: no"
    assert paused_by(paused, LATER) == ""
    assert paused_by(replace(paused, forced=Forced.CLOSED), NOW) == ""
    assert paused_by(None, NOW) == ""
