"""Whether a run is the retry that someone else made, and what it does to the lineage."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.examples import NOW, PLAIN, discovered, execution, running, submitting
from worker.domain import joining, transitions
from worker.domain.executions import Execution, Status
from worker.domain.joining import LOOK_BEHIND, MOST_JOINED, REMEMBER_SHARED, Part, Reading, Shared
from worker.domain.lineage import Attempt, Lineage, State
from worker.domain.policy import GiveUp, GiveUpReason, RetryAt
from worker.domain.transitions import Change, IllegalTransitionError
from worker.ledger import records

SKEW = timedelta(seconds=3)
FAILED_AT = NOW - timedelta(minutes=10)
DAY = timedelta(hours=24)
LATER = NOW + timedelta(minutes=1)


def root() -> Execution:
    created_at = FAILED_AT - timedelta(minutes=2)
    return execution("root", fingerprint="print", created_at=created_at + SKEW, updated_at=FAILED_AT + SKEW)


def run(
    uuid: str = "theirs", status: Status = Status.RUNNING, *, at: datetime = NOW, **facts: Any
) -> Execution:
    """Return a run with the root's key that was created at a time of our clock."""
    shown = {"fingerprint": "print", "created_at": at + SKEW, "updated_at": at + SKEW} | facts
    return execution(uuid, status, **shown)


def scheduled() -> Lineage:
    change = discovered(root())
    return replace(change.after, root_failed_at=FAILED_AT, last_failed_at=FAILED_AT)


def joined(lineage: Lineage, status: Status = Status.RUNNING, uuid: str = "theirs") -> Change:
    return transitions.join(lineage, run(uuid, status), made_at=NOW, now=NOW, evidence="seen")


def exhausted(reason: str = "attempts_used_up") -> Lineage:
    verdict = GiveUp(GiveUpReason(reason), "3 of 3 attempts were made")
    return transitions.give_up(scheduled(), verdict, PLAIN, "default", now=NOW).after


def rejected() -> Lineage:
    sent = submitting(scheduled()).after
    return transitions.reject(sent, reason="validation_error", detail="no", now=NOW).after


def recovered() -> Lineage:
    return transitions.recover(running(scheduled()).after, now=NOW, ended_at=NOW).after


def cancelled() -> Lineage:
    return replace(scheduled(), state=State.CANCELLED, since=NOW)


def unresolved() -> Lineage:
    return transitions.unresolve(submitting(scheduled()).after, reason="x", detail="", now=NOW).after


def held() -> Lineage:
    return transitions.hold(unresolved(), reason="unclear", detail="", now=NOW).after


ALIVE, DONE, FAILED = Status.RUNNING, Status.COMPLETED, Status.FAILED


@pytest.mark.parametrize(
    ("lineage", "alive", "done", "failed"),
    [
        (scheduled(), Part.NEXT, Part.NEXT, Part.NEXT),
        (exhausted(), Part.NEXT, Part.NEXT, Part.NEXT),
        (rejected(), Part.NEXT, Part.NEXT, Part.NEXT),
        (running(scheduled()).after, None, None, Part.ASIDE),
        (cancelled(), None, None, Part.ASIDE),
        (recovered(), None, None, Part.ASIDE),
        (submitting(scheduled()).after, None, None, None),
        (unresolved(), None, None, None),
        (held(), None, None, None),
    ],
    ids=lambda value: value.state.value if isinstance(value, Lineage) else "",
)
def test_what_a_run_is_to_a_lineage(
    lineage: Lineage, alive: Part | None, done: Part | None, failed: Part | None
) -> None:
    """It depends on both; while a call of ours is in doubt, nothing is anybody else's."""
    found = [joining.part_of(lineage, run(status=each), SKEW, DAY) for each in (ALIVE, DONE, FAILED)]
    assert found == [alive, done, failed]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"fingerprint": ""}, "a payload that is not known tells nothing apart"),
        ({"fingerprint": "another"}, "another payload"),
        ({"workflow_version_uuid": "version-2"}, "another version"),
        ({"created_at": None}, "nobody knows when it was created"),
        ({"created_at": FAILED_AT + SKEW - timedelta(seconds=2)}, "older than the failure"),
        ({"status": Status.UNKNOWN}, "a status that may never end"),
        ({"uuid": "root"}, "the failed execution itself"),
    ],
)
def test_what_cannot_be_a_retry(changes: dict[str, Any], why: str) -> None:
    """All of these are as today."""
    assert joining.part_of(scheduled(), run(), SKEW, DAY) is Part.NEXT
    assert joining.part_of(scheduled(), replace(run(), **changes), SKEW, DAY) is None, why


def test_without_the_apis_own_dates_nothing_came_after_the_failure() -> None:
    """A failure whose time we made up orders nothing."""
    for unknown in ({"failure_stamp": None}, {"dated": False}, {"fingerprint": ""}):
        assert joining.part_of(replace(scheduled(), **unknown), run(), SKEW, DAY) is None


def test_a_retry_of_the_root_that_was_made_while_our_clone_ran_is_one() -> None:
    """It waits until our clone has failed; then it is watched, or belongs there if it failed before that."""
    ran = running(scheduled()).after
    clone = execution("clone-1", FAILED, fingerprint="print", updated_at=LATER + SKEW)
    soon = RetryAt(2, LATER, timedelta(0))
    again = transitions.fail_again(
        ran, clone, soon, failed_at=LATER, now=LATER, policy=PLAIN, policy_name="default"
    ).after
    meanwhile = NOW + timedelta(seconds=20)
    assert joining.part_of(again, run(at=meanwhile), SKEW, DAY) is Part.NEXT
    assert joining.part_of(again, run(status=FAILED, at=meanwhile), SKEW, DAY) is Part.ASIDE
    assert joining.part_of(again, run(status=FAILED, at=LATER), SKEW, DAY) is Part.NEXT


def test_a_verdict_is_thought_of_for_the_look_back_only() -> None:
    """The failure of a run months later is a new one; after a success, whatever was created later is."""
    late = NOW + DAY + timedelta(seconds=1)
    for lineage in (exhausted(), rejected(), cancelled()):
        assert joining.part_of(lineage, run(status=FAILED, at=NOW + DAY), SKEW, DAY) is not None
        assert joining.part_of(lineage, run(status=FAILED, at=late), SKEW, DAY) is None
    assert joining.part_of(recovered(), run(status=FAILED, at=NOW + timedelta(seconds=2)), SKEW, DAY) is None


def test_a_lineage_takes_so_many_runs_and_no_more() -> None:
    """An endless row of ordinary failures must not hide in one lineage."""
    theirs = tuple(
        Attempt(f"t{n}", "root", timedelta(0), NOW, NOW, "seen", joined=True) for n in range(MOST_JOINED)
    )
    assert joining.part_of(replace(scheduled(), attempts=theirs[1:]), run(), SKEW, DAY) is Part.NEXT
    assert joining.part_of(replace(scheduled(), attempts=theirs), run(), SKEW, DAY) is None


def other(uuid: str = "other", **facts: Any) -> Execution:
    return run(uuid, DONE, at=FAILED_AT - timedelta(hours=5), **facts)


FAR = FAILED_AT + SKEW - LOOK_BEHIND
NEAR = FAR + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("listing", "since", "taken"),
    [
        ([run(), root(), other(fingerprint="b")], NEAR, True),  # payloads differ, and the failure is shown
        ([run(), other(fingerprint="b")], NEAR, False),  # not read back to the failure
        ([run(), other(fingerprint="b")], FAR, True),
        ([run(), root()], NEAR, False),  # the payload may be what every run has
        ([run(), root()], FAR, True),
        ([run(), root()], None, True),
        ([run(), root(), other(fingerprint="")], NEAR, False),  # no payload is no other payload
        ([run(), root(), other(fingerprint="b"), other()], None, False),  # an ordinary run shares it
        ([run(), root(), other(created_at=None)], None, False),
        ([run(), root(), other(workflow_version_uuid="version-2")], None, True),
        ([root(), other(fingerprint="b")], None, False),  # it is not shown itself
        ([run(fingerprint=""), root(), other(fingerprint="b")], None, False),
    ],
)
def test_a_key_is_distinctive_only_where_the_list_shows_it(
    listing: list[Execution], since: datetime | None, taken: bool
) -> None:
    """Read far enough, nobody else has that payload, and payloads differ or the list was read to its end."""
    judged = joining.judge(scheduled(), run(), Reading(listing, since), SKEW, has_been_there=True)
    assert judged.taken is taken
    assert judged.evidence


def test_an_entry_that_cannot_be_read_may_share_the_payload() -> None:
    """A list with holes is not complete."""
    reading = Reading([run(), root()], None, unreadable=1)
    assert not joining.judge(scheduled(), run(), reading, SKEW, has_been_there=True).taken


@pytest.mark.parametrize(("status", "taken"), [(ALIVE, True), (FAILED, True), (DONE, False)])
def test_nobody_retries_what_completed(status: Status, taken: bool) -> None:
    """A later run with the same payload speaks of an ordinary workflow only after a success."""
    first, second = run("first", status), run("second", at=LATER)
    reading = Reading([second, first, root()])
    judged = joining.judge(scheduled(), first, reading, SKEW, has_been_there=True)
    assert judged.taken is taken
    assert not joining.judge(scheduled(), second, reading, SKEW, has_been_there=True).taken


def test_a_key_that_is_shared_is_remembered_for_an_hour() -> None:
    """And not for ever: neither in meaning nor in memory."""
    shared = Shared()
    shared.note(("v", "a"), NOW)
    assert shared.knows(("v", "a"), NOW + REMEMBER_SHARED - timedelta(seconds=1))
    assert not shared.knows(("v", "a"), NOW + REMEMBER_SHARED)
    assert not shared.knows(("v", "b"), NOW)
    shared.note(("v", "b"), NOW + REMEMBER_SHARED)
    assert list(shared.found_at) == [("v", "b")]


def test_of_new_failures_the_first_one_begins_and_its_retries_follow() -> None:
    """Those that were created before it failed are failures of their own."""
    first = run("first", FAILED, at=NOW, updated_at=LATER + SKEW)
    beside = run("beside", FAILED, at=NOW, updated_at=LATER + SKEW + timedelta(minutes=5))
    retry = run("retry", FAILED, at=LATER + timedelta(seconds=1))
    stranger = run("stranger", FAILED, at=LATER + timedelta(seconds=1), fingerprint="b")
    unknown = [run(f"u{n}", FAILED, at=LATER, fingerprint="") for n in range(2)]
    assert joining.followers([retry, *unknown, beside, stranger, first]) == {"retry"}


def test_a_retry_that_joins_drops_what_was_scheduled_and_spends_nothing() -> None:
    """It is watched like a clone of ours."""
    change = joined(scheduled())
    after = change.after
    assert (after.state, after.made, after.due_at, after.intent) == (State.RUNNING, 0, None, None)
    assert (after.newest.clone, after.newest.joined, after.newest.of) == ("theirs", True, "root")
    assert change.claims_clone == "theirs"
    assert [event.name for event in change.events] == ["retry_joined"]
    assert change.events[0].facts["status"] == "running"
    assert after.version == scheduled().version + 1


def test_one_that_has_completed_is_the_verdict_in_one_step() -> None:
    """Joined and recovered are stored together: the version grows by one."""
    first = joined(scheduled(), DONE)
    both = transitions.followed_by(first, transitions.recover(first.after, now=NOW, ended_at=NOW))
    assert (both.before, both.after.state, both.after.version) == (first.before, State.RECOVERED, 2)
    assert [event.name for event in both.events] == ["retry_joined", "execution_recovered"]
    assert both.claims_clone == "theirs"


@pytest.mark.parametrize("lineage", [exhausted(), rejected()], ids=["exhausted", "rejected"])
def test_a_dead_letter_that_someone_retries_ends_as_before_when_that_fails(lineage: Lineage) -> None:
    """Whatever the policy says by now, no call of ours follows. The record keeps the verdict meanwhile."""
    again = joined(lineage).after
    assert again.state is State.RUNNING
    again = records.load("root", records.dump(again, "token"))
    soon = RetryAt(1, LATER, timedelta(0))
    change = transitions.fail_again(
        again, run(status=FAILED), soon, failed_at=LATER, now=LATER, policy=PLAIN, policy_name="default"
    )
    ended = change.after
    assert (ended.state, ended.reason, ended.detail) == (lineage.state, lineage.reason, lineage.detail)
    assert (ended.due_at, ended.ended_before, ended.failing) == (None, None, "theirs")
    done = transitions.recover(again, now=LATER, ended_at=LATER).after
    assert (done.state, done.ended_before) == (State.RECOVERED, None)


def test_a_failure_beside_what_goes_on_belongs_to_the_lineage_and_changes_nothing() -> None:
    """What is watched stays the newest attempt, also once it was written down."""
    ran = running(scheduled()).after
    change = transitions.claim_failed(
        ran, run(status=FAILED), made_at=NOW, failed_at=LATER, now=LATER, evidence="seen"
    )
    after = records.load("root", records.dump(change.after, "token"))
    assert after == change.after
    assert replace(after, version=ran.version, attempts=ran.attempts) == ran
    assert [attempt.clone for attempt in after.attempts] == ["theirs", "clone-1"]
    assert (after.attempts[0].outcome, after.made, change.claims_clone) == ("failed", 1, "theirs")
    assert "stays running" in str(change.events[0].facts["detail"])
    for lineage in (recovered(), cancelled(), exhausted(), scheduled()):
        beside = transitions.claim_failed(
            lineage, run(status=FAILED), made_at=NOW, failed_at=LATER, now=LATER, evidence="seen"
        ).after
        assert (beside.state, beside.since, "theirs" in beside.members) == (
            lineage.state,
            lineage.since,
            True,
        )


@pytest.mark.parametrize("lineage", [unresolved(), held(), submitting(scheduled()).after])
def test_nothing_is_taken_in_while_a_call_is_in_doubt(lineage: Lineage) -> None:
    """Not even by mistake: it may be our own clone."""
    with pytest.raises(IllegalTransitionError):
        transitions.claim_failed(
            lineage, run(status=FAILED), made_at=NOW, failed_at=NOW, now=NOW, evidence="seen"
        )
    with pytest.raises(IllegalTransitionError):
        joined(lineage)


def test_where_no_payload_differs_time_has_to_tell() -> None:
    """Every run of a new workflow may have this payload: a second one would show up soon."""
    reading = Reading([run(), root()])
    early = joining.judge(scheduled(), run(), reading, SKEW, has_been_there=False)
    assert (early.taken, early.too_early) == (False, True)
    later = joining.judge(scheduled(), run(), reading, SKEW, has_been_there=True)
    assert (later.taken, later.too_early) == (True, False)


def test_a_run_that_comes_again_and_again_is_no_retry() -> None:
    """The list has to be read back as far again: a job that runs every few hours would have shown before."""
    began_at, came_at = root().created_at, run().created_at
    assert began_at
    assert came_at
    shown = [run("another", fingerprint="another"), run(), root()]
    far = Reading(shown, since=began_at - 4 * (came_at - began_at))
    near = Reading(shown, since=began_at - timedelta(seconds=2))
    assert joining.judge(scheduled(), run(), far, SKEW, has_been_there=True).taken
    assert not joining.judge(scheduled(), run(), near, SKEW, has_been_there=True).taken
