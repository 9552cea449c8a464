"""The state machine: what is allowed, what is not, and what each step leaves on record."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.examples import NOW, PLAIN, discovered, execution, running, submitting
from worker.domain import transitions
from worker.domain.executions import Status
from worker.domain.lineage import FINAL_STATES, State
from worker.domain.policy import GiveUp, GiveUpReason, Policy, RetryAt
from worker.domain.transitions import EDGES, IllegalTransitionError

LATER = NOW + timedelta(seconds=30)


def test_a_new_failure_is_scheduled_and_says_so() -> None:
    """Discovery and the first decision are one change with two events."""
    change = discovered()
    assert change.before is None
    assert change.after.state is State.SCHEDULED
    assert change.after.version == 1
    assert change.after.due_at == NOW + timedelta(seconds=9)  # ten seconds after it failed
    assert [event.name for event in change.events] == ["execution_discovered", "retry_scheduled"]
    assert change.events[1].facts["max_attempts"] == 3


@pytest.mark.parametrize(
    ("reason", "state", "event"),
    [
        (GiveUpReason.POLICY_DISABLED, State.REJECTED, "retry_rejected"),
        (GiveUpReason.REPORT_ONLY, State.EXHAUSTED, "retries_exhausted"),
        (GiveUpReason.DEADLINE_PASSED, State.EXHAUSTED, "retries_exhausted"),
    ],
)
def test_a_failure_that_will_not_be_retried_gets_its_verdict_at_once(
    reason: GiveUpReason, state: State, event: str
) -> None:
    """Every failure seen gets a verdict with a reason, also when no attempt is made."""
    change = discovered(decision=GiveUp(reason, "because"))
    assert (change.after.state, change.after.reason, change.after.detail) == (state, reason.value, "because")
    assert change.events[-1].name == event


def test_an_attempt_is_spent_by_the_clone_and_by_nothing_else() -> None:
    """Law 5: submitting, not delivering and not knowing cost nothing; accepting costs one attempt."""
    scheduled = discovered().after
    sent = submitting(scheduled).after
    back = transitions.not_delivered(sent, reason="connect_error", detail="", due_at=LATER, now=NOW).after
    assert (back.state, back.history.attempts, back.undelivered) == (State.SCHEDULED, 0, 1)
    unknown = transitions.unresolve(
        submitting(back, token="call-2").after, reason="x", detail="", now=NOW
    ).after
    assert unknown.history.attempts == 0
    accepted = transitions.accept(
        unknown, execution("clone-1", Status.QUEUED), now=LATER, evidence="listing"
    ).after
    assert (accepted.state, accepted.history.attempts, accepted.undelivered) == (State.RUNNING, 1, 0)
    assert accepted.intent is None


def test_the_clone_is_claimed_so_that_no_other_lineage_can_have_it() -> None:
    """The change names the clone for the ledger's ownership check; a retry in place claims nothing new."""
    sent = submitting(discovered().after).after
    made = transitions.accept(sent, execution("clone-1", Status.QUEUED), now=NOW, evidence="201")
    assert made.claims_clone == "clone-1"
    in_place = transitions.accept(sent, execution("root", Status.QUEUED), now=NOW, evidence="201")
    assert in_place.claims_clone is None
    assert in_place.after.newest.in_place


def test_a_clone_that_fails_is_retried_next_and_the_chain_stays_one_lineage() -> None:
    """The failing execution becomes the clone; the attempts keep the order."""
    alive = running(discovered().after).after
    failed = execution("clone-1", updated_at=LATER)
    change = transitions.fail_again(
        alive,
        failed,
        RetryAt(2, LATER, timedelta(seconds=40)),
        failed_at=LATER,
        now=LATER,
        policy=PLAIN,
        policy_name="default",
    )
    again = change.after
    assert (again.state, again.failing, again.next_attempt) == (State.SCHEDULED, "clone-1", 2)
    assert again.newest.outcome == "failed"
    assert [event.name for event in change.events] == ["attempt_failed", "retry_scheduled"]
    assert again.members == ("root", "clone-1")
    assert submitting(again).after.intent.of == "clone-1"  # type: ignore[union-attr]


def test_a_late_answer_is_taken_after_we_had_concluded_there_was_no_clone() -> None:
    """A 201 that arrives after resolving said "no clone" still names the clone, so no second is made."""
    unknown = transitions.unresolve(
        submitting(discovered().after).after, reason="x", detail="", now=NOW
    ).after
    back = transitions.not_delivered(unknown, reason="no_clone_found", detail="", due_at=LATER, now=NOW).after
    assert back.intent is not None
    late = transitions.accept(back, execution("clone-1", Status.QUEUED), now=LATER, evidence="201")
    assert late.after.state is State.RUNNING


def test_a_decision_comes_first_in_the_story_and_with_what_follows_from_it() -> None:
    """One change: who and why, then the step itself."""
    unknown = transitions.unresolve(
        submitting(discovered().after).after, reason="x", detail="", now=NOW
    ).after
    step = transitions.not_delivered(unknown, reason="decided_by_person", detail="", due_at=NOW, now=NOW)
    decided = transitions.by_person(step, decision="not_delivered", by="a@b", why="seen", clone_uuid=None)
    assert decided.after == step.after
    assert [event.name for event in decided.events] == ["person_decided", "retry_not_delivered"]
    assert dict(decided.events[0].facts) == {
        "decision": "not_delivered",
        "by": "a@b",
        "why": "seen",
        "clone_uuid": None,
    }


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_nothing_leaves_a_verdict_but_for_a_run_that_is_there_or_a_person(state: State) -> None:
    """Final is final: a dead letter that someone else retries is watched; else it takes a person."""
    by_person = {State.SCHEDULED, State.CANCELLED}
    expected = {
        State.RECOVERED: set(),
        State.EXHAUSTED: {State.RUNNING, *by_person},
        State.REJECTED: {State.RUNNING, *by_person},
        State.CANCELLED: {State.SCHEDULED},
    }
    assert EDGES[state] == expected[state]


def test_what_the_state_machine_does_not_know_raises() -> None:
    """A scheduled lineage has no call to settle, a recovered one has no next attempt."""
    scheduled = discovered().after
    with pytest.raises(IllegalTransitionError):
        transitions.unresolve(scheduled, reason="x", detail="", now=NOW)
    with pytest.raises(IllegalTransitionError):
        transitions.observe(scheduled, alive=True)
    recovered = transitions.recover(running(scheduled).after, now=LATER, ended_at=LATER).after
    with pytest.raises(IllegalTransitionError):
        submitting(recovered)
    with pytest.raises(IllegalTransitionError):
        transitions.reject(recovered, reason="x", detail="", now=NOW)


def test_every_state_can_reach_a_verdict() -> None:
    """No state is a trap: from each one a final state can be reached."""
    ends = set(FINAL_STATES)
    while grown := {state for state in State if state not in ends and EDGES[state] & ends}:
        ends |= grown
    assert ends == set(State)


def test_versions_grow_by_one_with_every_step() -> None:
    """Compare-and-set rests on it."""
    scheduled = discovered().after
    sent = submitting(scheduled).after
    alive = transitions.accept(sent, execution("c", Status.QUEUED), now=NOW, evidence="201").after
    seen = transitions.observe(alive, missing_since=NOW).after
    assert [each.version for each in (scheduled, sent, alive, seen)] == [1, 2, 3, 4]


def test_the_policy_in_force_at_the_call_may_end_the_lineage() -> None:
    """A deploy that lowers the maximum ends a lineage that was scheduled under the old one."""
    change = transitions.give_up(
        discovered().after,
        GiveUp(GiveUpReason.ATTEMPTS_USED_UP, "0 of 0"),
        Policy(max_attempts=0),
        "x",
        now=LATER,
    )
    assert change.after.state is State.EXHAUSTED
