"""Which bars a step of a lineage draws: everything that is over, once, inside its parent."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.support.examples import NOW, PLAIN, discovered, execution, running, submitting
from worker.domain import transitions
from worker.domain.executions import Status
from worker.domain.lineage import Lineage
from worker.domain.policy import GiveUp, GiveUpReason, RetryAt, Rule
from worker.domain.transitions import Change
from worker.tracing.waterfall import Bar, attempt_span, bars_of, lineage_span

MINUTE = timedelta(minutes=1)
USED_UP = GiveUp(GiveUpReason.ATTEMPTS_USED_UP, "as many as may be")


def names(change: Change) -> list[str]:
    return [bar.name for bar in bars_of(change)]


def one(change: Change, name: str) -> Bar:
    (bar,) = [bar for bar in bars_of(change) if bar.name == name]
    return bar


def failed_again(lineage: Lineage, decision: RetryAt | GiveUp, after: timedelta) -> Change:
    at = lineage.newest.submitted_at + after
    clone = execution(lineage.newest.clone, Status.FAILED)
    return transitions.fail_again(
        lineage, clone, decision, failed_at=at, now=at, policy=PLAIN, policy_name="default"
    )


def again(minutes: int) -> RetryAt:
    return RetryAt(2, NOW + minutes * MINUTE, MINUTE, Rule.BACKOFF, "")


def test_a_new_failure_shows_how_long_it_went_unnoticed() -> None:
    """From the failure until it was seen; the lineage itself is drawn at its verdict."""
    change = discovered()
    notice = one(change, "notice")
    assert names(change) == ["notice"]
    assert (notice.begins, notice.ends) == (NOW - timedelta(seconds=1), NOW)
    assert notice.parent == lineage_span("root")


def test_a_verdict_at_first_sight_is_a_whole_lineage() -> None:
    """Nothing was tried: the failure and the reason are all there is."""
    change = discovered(decision=USED_UP)
    assert names(change) == ["notice", "lineage"]
    assert one(change, "lineage").trouble == "attempts_used_up"


def test_the_wait_ends_with_the_intent_and_belongs_to_its_attempt() -> None:
    """It begins with the failure being seen, however often it was put off meanwhile."""
    lineage = discovered().after
    put_off = transitions.defer(lineage, reason="workflow_failing", detail="", now=NOW + MINUTE)
    assert names(put_off) == []
    wait = one(submitting(put_off.after, now=NOW + 2 * MINUTE), "wait")
    assert (wait.begins, wait.ends) == (NOW, NOW + 2 * MINUTE)
    assert wait.parent == attempt_span("root", 1)
    assert wait.facts["kinetic.reason"] == "workflow_failing"


def test_an_ended_clone_draws_itself_and_its_attempt() -> None:
    """The attempt reaches from the failure before it to the clone's end; the next one begins there."""
    first = running(discovered().after).after
    change = failed_again(first, again(3), MINUTE)
    assert names(change) == ["clone", "attempt"]
    attempt, clone = one(change, "attempt"), one(change, "clone")
    assert (attempt.span_id, attempt.begins, attempt.ends) == (attempt_span("root", 1), NOW, NOW + MINUTE)
    assert (clone.parent, clone.begins, clone.ends) == (attempt.span_id, NOW, NOW + MINUTE)
    assert attempt.trouble == clone.trouble == "failed"
    second = running(change.after, "clone-2", now=NOW + 3 * MINUTE).after
    last = transitions.recover(second, now=NOW + 5 * MINUTE, ended_at=NOW + 4 * MINUTE)
    assert names(last) == ["clone", "attempt", "lineage"]
    assert one(last, "attempt").begins == NOW + MINUTE
    assert one(last, "attempt").span_id == attempt_span("root", 2)
    whole = one(last, "lineage")
    assert (whole.parent, whole.ends, whole.trouble) == (None, NOW + 5 * MINUTE, "")
    assert whole.facts["kinetic.attempts"] == 2


def test_an_attempt_without_a_clone_ends_with_the_verdict() -> None:
    """A call that the API refuses is all there is of it."""
    sent = submitting(discovered().after).after
    change = transitions.reject(sent, reason="not_found", detail="", now=NOW + MINUTE, http_status=404)
    assert names(change) == ["attempt", "lineage"]
    assert one(change, "attempt").trouble == "not_found"
    assert one(change, "attempt").facts["kinetic.attempt"] == 1


def test_a_clone_that_nobody_saw_end_leaves_its_attempt_only() -> None:
    """A person ends the lineage while it runs: no end of the clone is made up."""
    change = transitions.cancel(running(discovered().after).after, detail="", now=NOW + MINUTE)
    assert names(change) == ["attempt", "lineage"]
    assert one(change, "lineage").trouble == ""


def test_waiting_for_its_end_without_a_call_belongs_to_the_lineage() -> None:
    """No call was made for the next attempt, so there is none to draw."""
    lineage = discovered().after
    change = transitions.give_up(lineage, USED_UP, PLAIN, "default", now=NOW + MINUTE)
    assert names(change) == ["wait", "lineage"]
    assert one(change, "wait").parent == lineage_span("root")


def test_doubt_and_a_call_sent_again_are_parts_of_one_attempt() -> None:
    """Two waits, the doubt and the clone hang below the same span, each under an id of its own."""
    sent = submitting(discovered().after).after
    lost = transitions.not_delivered(sent, reason="dns_error", detail="", due_at=NOW + MINUTE, now=NOW).after
    resent = submitting(lost, now=NOW + MINUTE, token="call-2")
    doubted = transitions.unresolve(resent.after, reason="read_timeout", detail="", now=NOW + 2 * MINUTE)
    clone = execution("clone-1", Status.QUEUED)
    found = transitions.accept(doubted.after, clone, now=NOW + 3 * MINUTE, evidence="list")
    wait, doubt = one(resent, "wait"), one(found, "in doubt")
    assert wait.parent == doubt.parent == attempt_span("root", 1)
    assert (wait.begins, doubt.begins, doubt.ends) == (NOW, NOW + 2 * MINUTE, NOW + 3 * MINUTE)
    assert wait.span_id != one(submitting(discovered().after), "wait").span_id


def test_a_run_of_someone_else_is_no_attempt() -> None:
    """It hangs below the lineage, and the numbers of our attempts go on without it."""
    theirs = execution("theirs", Status.RUNNING)
    joined = transitions.join(discovered().after, theirs, made_at=NOW, now=NOW, evidence="")
    change = failed_again(joined.after, again(2), MINUTE)
    assert names(change) == ["joined run"]
    assert one(change, "joined run").parent == lineage_span("root")
    ours = running(change.after, "clone-1", now=NOW + 2 * MINUTE).after
    assert one(failed_again(ours, USED_UP, MINUTE), "attempt").span_id == attempt_span("root", 1)


def test_in_place_each_run_of_the_same_execution_is_drawn() -> None:
    """Where a deployment runs the failed execution again, all runs have one uuid and are still told apart."""
    first = running(discovered().after, "root").after
    change = failed_again(first, again(2), MINUTE)
    second = running(change.after, "root", now=NOW + 2 * MINUTE).after
    last = failed_again(second, USED_UP, MINUTE)
    assert names(last) == ["clone", "attempt", "lineage"]
    assert one(last, "attempt").begins == NOW + MINUTE
    assert one(last, "clone").span_id != one(change, "clone").span_id


def test_no_bar_ends_before_it_begins() -> None:
    """Clocks disagree: a clone may have ended before its answer was taken in."""
    lineage = running(discovered().after).after
    newest = replace(lineage.newest, accepted_at=NOW + MINUTE)
    late = replace(lineage, attempts=(newest,))
    change = transitions.recover(late, now=NOW + MINUTE, ended_at=NOW)
    assert all(bar.begins <= bar.ends for bar in bars_of(change))
