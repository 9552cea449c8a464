"""The story of a lineage: in order, complete, ending in a verdict with its reason."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from rich.text import Text

from tests.support.examples import NOW, PLAIN, discovered, execution, running, submitting
from worker.cli.story import SENTENCES, VERDICTS, tell
from worker.domain import transitions
from worker.domain.budget import Limit
from worker.domain.executions import Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import GiveUp, GiveUpReason, _backoff_in_words
from worker.domain.transitions import Change
from worker.ledger.reports import StoredEvent

SECOND = timedelta(seconds=1)
BACKOFF = _backoff_in_words(PLAIN, 1)


def told(lineage: Lineage, events: list[StoredEvent], now: datetime = NOW) -> list[str]:
    return [Text.from_markup(line).plain.strip() for line in tell(lineage, events, now)]


def stored(*changes: Change) -> list[StoredEvent]:
    return [
        StoredEvent(change.after.since, event.name, change.after.root, dict(event.facts))
        for change in changes
        for event in change.events
    ]


def exhausted() -> tuple[Lineage, list[StoredEvent]]:
    """One clone, which failed; no further attempt."""
    found = discovered(execution(workflow_name="Claims [bold]x[/] \x1b[31m"))
    sent = submitting(found.after, now=NOW + SECOND)
    made = execution("clone-1", Status.QUEUED)
    accepted = transitions.accept(sent.after, made, now=NOW + 2 * SECOND, evidence="201")
    end = transitions.fail_again(
        accepted.after,
        execution("clone-1"),
        GiveUp(GiveUpReason.DEADLINE_PASSED, "the deadline is over"),
        failed_at=NOW + 5 * SECOND,
        now=NOW + 6 * SECOND,
        policy=PLAIN,
        policy_name="default",
    )
    return end.after, stored(found, sent, accepted, end)


def test_the_whole_story_in_order() -> None:
    """From the failure to the verdict, with times and reasons."""
    lineage, events = exhausted()
    head, *body = told(lineage, events)
    assert head == "Claims [bold]x[/]  execution root"
    assert body == [
        "11:59:59  the execution failed",
        "12:00:00  found in the list, 1.0s later",
        f"12:00:00  attempt 1 of 3 scheduled for 12:00:09, 10s after the failure (policy default; {BACKOFF})",
        "12:00:01  attempt 1: intent on record, retry call sent",
        "12:00:02  Kinetic answered with the clone clone-1",
        "12:00:06  attempt 1 failed",
        "12:00:06  no further attempt (deadline_passed: the deadline is over)",
        "→ exhausted; 1 attempt so far",
        "reason: deadline_passed: the deadline is over",
    ]


def test_the_record_tells_it_when_the_stream_has_lost_the_beginning() -> None:
    """Half a stream would tell half a story."""
    lineage, events = exhausted()
    body = told(lineage, events[3:])
    assert "12:00:02  its clone is clone-1 (201)" in body
    assert "12:00:05  the clone ended: failed" in body
    assert "→ exhausted; 1 attempt so far" in body


def test_a_decision_is_told_with_who_and_why_once() -> None:
    """What follows from it does not say it again; what a person wrote is text and nothing else."""
    found = discovered()
    lost = transitions.unresolve(submitting(found.after).after, reason="x", detail="", now=NOW)
    said = {"by": "ann@ops", "why": "same claim [red]\x1b[31m"}
    clone = execution("clone-1", Status.QUEUED)
    words = "decided_by_person: ann@ops: same claim"
    adopted = transitions.accept(lost.after, clone, now=NOW, evidence=words)
    back = transitions.not_delivered(
        lost.after, reason="decided_by_person", detail=words, due_at=NOW, now=NOW
    )
    body = told(
        adopted.after,
        stored(
            found,
            transitions.by_person(adopted, decision="clone", clone_uuid="clone-1", **said),
            transitions.by_person(back, decision="not_delivered", **said),
            transitions.by_person(replace(back, events=()), decision="of a newer worker", **said),
        ),
    )
    assert [line.partition("  ")[2] for line in body[4:-1]] == [
        "ann@ops decided that clone-1 is the clone: same claim [red]",
        "the clone clone-1 is watched as attempt 1",
        "ann@ops decided that the call made no clone: same claim [red]",
        "no attempt is spent; again at 12:00:00",
        "ann@ops decided of a newer worker: same claim [red]",
    ]


def test_calls_in_doubt_are_told_with_their_reason_and_evidence() -> None:
    """Not delivered costs nothing; unresolved is looked for; how it was resolved is said."""
    found = discovered()
    sent = submitting(found.after)
    lost = transitions.unresolve(sent.after, reason="read_timeout", detail="no answer came", now=NOW)
    adopted = transitions.accept(
        lost.after, execution("clone-1", Status.QUEUED), now=NOW, evidence="only candidate in the list"
    )
    text = "\n".join(told(adopted.after, stored(found, sent, lost, adopted)))
    assert "whether a clone was made is not known (read_timeout: no answer came); looking for it" in text
    assert "the clone is clone-1 (only candidate in the list)" in text
    refused = transitions.not_delivered(
        sent.after, reason="rate_limited", detail="", due_at=NOW + SECOND, now=NOW, http_status=429
    )
    text = "\n".join(told(refused.after, stored(found, sent, refused)))
    assert "no clone was made (rate_limited); no attempt is spent; again at 12:00:01" in text
    assert "due 12:00:01 (in 1.0s)" in text


def test_what_is_due_and_waits_says_for_what() -> None:
    """Until when if that is known, with the date when it is another day's; the verdict tells it, too."""
    found = discovered()
    tomorrow = NOW + timedelta(hours=20)
    night = transitions.defer(
        found.after, reason="calendar", detail="not during quiet hours", now=NOW + SECOND, due_at=tomorrow
    )
    limit = transitions.defer(night.after, reason=Limit.PACE, detail="20 of 20 clones", now=NOW + 2 * SECOND)
    body = told(limit.after, stored(found, night, limit), tomorrow + SECOND)
    assert (
        "2026-03-01 12:00:01  attempt 1 is due, and waits until 2026-03-02 08:00:00 "
        "(calendar: not during quiet hours)"
    ) in body
    assert "2026-03-01 12:00:02  attempt 1 is due, and waits (pace: 20 of 20 clones)" in body
    assert body[-2:] == [
        "→ waits for its next attempt, due since 08:00:00 (1.0s ago); 0 attempts so far",
        "reason: pace: 20 of 20 clones",
    ]


def test_the_step_is_named_when_the_same_failure_comes_again_and_again() -> None:
    """At each failure, and in the verdict."""
    stuck: dict[str, Any] = {"n_steps": 7, "n_agent_actions": 21, "duration_ms": 60_000}
    run = running(discovered(execution(**stuck)).after)
    detail = "the same failure 3 times in a row: step 7, 21 actions, 60 s"
    end = transitions.fail_again(
        run.after,
        execution("clone-1", **stuck),
        GiveUp(GiveUpReason.DETERMINISTIC, detail),
        failed_at=NOW + SECOND,
        now=NOW + SECOND,
        policy=PLAIN,
        policy_name="default",
        strikes=3,
    )
    body = told(end.after, stored(discovered(), end))
    assert "12:00:01  attempt 1 failed at step 7, 21 actions, 60 s; the same failure 3 times in a row" in body
    assert f"12:00:01  no further attempt (deterministic: {detail})" in body
    assert body[-1] == f"reason: deterministic: {detail}"


@pytest.mark.parametrize("from_stream", [True, False])
def test_a_run_of_someone_else_is_no_attempt_of_ours(*, from_stream: bool) -> None:
    """It is told as theirs, from the events as from the record, and not counted."""
    found = discovered()
    theirs = execution("theirs", Status.RUNNING)
    joined = transitions.join(found.after, theirs, made_at=NOW, now=NOW + SECOND, evidence="same payload")
    done = transitions.recover(joined.after, ended_at=NOW + 9 * SECOND, now=NOW + 10 * SECOND)
    text = "\n".join(told(done.after, stored(found, joined, done) if from_stream else []))
    assert "theirs" in text
    assert "someone else retried it: theirs (same payload)" in text
    assert ("the run of someone else completed" if from_stream else "the clone ended: completed") in text
    assert "→ recovered after 0 attempts and 1 of someone else, 10s after the first failure" in text


def test_a_recovery_says_how_long_it_took() -> None:
    """Counted from the first failure."""
    run = running(discovered().after)
    done = transitions.recover(run.after, ended_at=NOW + 9 * SECOND, now=NOW + 10 * SECOND)
    assert told(done.after, [])[-1] == "→ recovered after 1 attempt, 10s after the first failure"


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_its_words(state: State) -> None:
    """Also with a hostile reason."""
    lineage = replace(discovered().after, state=state, reason="[/]\x1b[31m", detail="\u202e\n[bold]")
    assert state in VERDICTS
    text = "\n".join(tell(lineage, [], NOW))
    assert Text.from_markup(text)
    assert not {"\x1b", "\u202e"} & set(text)


def test_every_event_of_the_domain_has_a_sentence() -> None:
    """A name alone is no sentence."""
    source = inspect.getsource(transitions)
    names = set(re.findall(r'Event\(\s*"(\w+)"', source)) | set(re.findall(r'"(retr(?:y|ies)_\w+)"', source))
    assert len(names) >= 12
    assert names - {"execution_discovered"} <= set(SENTENCES)


def test_an_event_from_a_newer_version_is_told_by_its_name() -> None:
    """It is not an error."""
    events = [*stored(discovered()), StoredEvent(NOW, "retry_pondered", "root", {})]
    assert "12:00:00  retry_pondered" in told(discovered().after, events)
