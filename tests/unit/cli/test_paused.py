"""What is said of pauses and orders: once, first, with who, why and until, and safe for a terminal."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.text import Text

from tests.support.examples import NOW, PLAIN, discovered, execution, running, submitting
from worker.cli import paused
from worker.cli.ordering import Wanted, word
from worker.cli.outcomes import Now, outcome
from worker.cli.story import tell
from worker.cli.workflows import Rules, sentence, stand
from worker.domain import orders, transitions
from worker.domain.breaker import UNTOUCHED, Forced, force
from worker.domain.budget import PLATFORM_LIMITS, Usage
from worker.domain.lineage import Lineage
from worker.domain.policy import GiveUp, GiveUpReason, Policy, PolicyBook
from worker.ledger.gate import Closed, GateState, Halt
from worker.ledger.reports import StoredEvent
from worker.ledger.workflow_reports import Named, WorkflowReport
from worker.ledger.workflows import Known

HOUR = timedelta(hours=1)
ANN = "ann@ops: asked the payer"
HALT = Halt("ann@ops", "Kinetic is upgraded", NOW - HOUR, NOW + 2 * HOUR)
BOOK = PolicyBook(PLAIN)
FREE = Now(NOW, GateState(), {}, BOOK)
HOSTILE = "\x1b[31mred\x1b[0m [bold]b[/] \u202e"


def plain(lines: list[str]) -> list[str]:
    return [Text.from_markup(line).plain for line in lines]


def standing(until: Any = None, detail: str = ANN, waiting: int = 0) -> Any:
    breaker = force(UNTOUCHED, Forced.OPEN, detail, NOW - HOUR, until)
    report = WorkflowReport(Named("w1", "w1", "Claim status"), Known(breaker, (), Usage()), waiting)
    (stood,) = stand([report], Rules(BOOK, PLATFORM_LIMITS), NOW)
    return stood


def dead_letter() -> Lineage:
    alive = running(discovered().after).after
    return transitions.fail_again(
        alive,
        execution("clone-1", updated_at=NOW),
        GiveUp(GiveUpReason.ATTEMPTS_USED_UP, "3 of 3"),
        failed_at=NOW,
        now=NOW,
        policy=PLAIN,
        policy_name="default",
    ).after


def test_status_says_pauses_first_and_nothing_where_there_is_none() -> None:
    """Everything before single workflows; what has run out is not said any more."""
    said = plain(paused.lines(HALT, [standing(NOW + HOUR, waiting=3), standing()], NOW))
    assert said == [
        " everything is paused  since 11:00:00 (1h ago) by ann@ops: Kinetic is upgraded",
        "  until 14:00:00 (in 2h): no retry call leaves; failures are found and clones are watched",
        " Claim status is paused  since 11:00:00 (1h ago) by ann@ops: asked the payer",
        "  until 13:00:00 (in 1h); 3 wait",
        " Claim status is paused  since 11:00:00 (1h ago) by ann@ops: asked the payer",
        "  until someone resumes",
    ]
    assert paused.lines(None, [standing(NOW - timedelta(seconds=1))], NOW) == []
    assert paused.lines(None, [], NOW) == []


def test_a_workflow_that_is_paused_says_until_when() -> None:
    """In the list of breakers and in the block of workflows."""
    said = Text.from_markup(sentence(standing(NOW + HOUR), NOW)).plain
    assert said == "forced open since 11:00:00, until 13:00:00 by ann@ops: asked the payer"


def test_what_people_wrote_is_text() -> None:
    """No colour, no markup and no direction of theirs reaches a terminal."""
    halt = replace(HALT, why=HOSTILE)
    for line in plain([*paused.lines(halt, [standing(detail=HOSTILE)], NOW), paused.sentence(halt, NOW)]):
        assert "\x1b" not in line
        assert "\u202e" not in line
    assert "red [bold]b[/]" in plain([paused.sentence(halt, NOW)])[0]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (FREE, "attempt 2 goes now"),
        (
            replace(FREE, gate=GateState(halt=HALT)),
            "attempt 2 goes now, but not before the pause of everything ends, at 14:00:00 (in 2h) "
            "(ann@ops: Kinetic is upgraded)",
        ),
        (
            replace(FREE, gate=GateState(halt=replace(HALT, until=None))),
            "attempt 2 goes now, but not before the pause of everything ends, when someone resumes "
            "(ann@ops: Kinetic is upgraded)",
        ),
        (
            replace(FREE, paused={"workflow-1": force(UNTOUCHED, Forced.OPEN, ANN, NOW, NOW + HOUR)}),
            f"attempt 2 goes now, but not before the pause of its workflow ends, at 13:00:00 (in 1h) ({ANN})",
        ),
        (
            replace(FREE, gate=GateState(closed=Closed.SUSPENDED, reason="unauthorized")),
            "attempt 2 goes now, but not before the API answers again: suspended (unauthorized)",
        ),
        (replace(FREE, policies=PolicyBook(Policy(max_attempts=0))), "attempt 2 goes now"),
    ],
)
def test_an_ordered_retry_says_what_it_waits_for(now: Now, words: str) -> None:
    """Never the policy: a person said so."""
    ordered = orders.retry(dead_letter(), detail=ANN, now=NOW).after
    assert outcome(ordered, Wanted.RETRY, now) == words


def test_a_release_says_when_it_goes_or_that_its_policy_allows_none() -> None:
    """Released after its deadline it would be a dead letter at once: say so here."""
    held = orders.hold(discovered().after, detail=ANN, now=NOW).after
    released = orders.release(held, detail=ANN, now=NOW).after
    assert outcome(released, Wanted.RELEASE, FREE) == "attempt 1 is due in 9.0s, at 12:00:09"
    late = orders.release(held, detail=ANN, now=NOW + 30 * HOUR).after
    assert outcome(late, Wanted.RELEASE, FREE).startswith(
        "its policy, as it is known here, allows no further attempt: the deadline is 24h"
    )


def test_what_waits_for_the_end_of_an_attempt_says_so() -> None:
    """With what is under way."""
    flying = [submitting(discovered().after).after, running(discovered().after).after]
    said = [outcome(orders.hold(each, detail=ANN, now=NOW).after, Wanted.HOLD, FREE) for each in flying]
    assert said == [
        "held when its attempt has ended: its retry call is under way",
        "held when its attempt has ended: its clone clone-1 is running",
    ]
    wanted = orders.cancel(flying[1], detail=ANN, now=NOW).after
    assert outcome(wanted, Wanted.CANCEL, FREE).startswith("cancelled, unless it completes, when its attempt")
    free = orders.release(wanted, detail=ANN, now=NOW).after
    assert outcome(free, Wanted.RELEASE, FREE) == "goes on as its policy has it when its attempt has ended"


def test_the_other_person_is_named() -> None:
    """What was said last, as an order or as the reason of a state."""
    assert word(orders.hold(discovered().after, detail=ANN, now=NOW).after) == (
        "it is held (held_by_person), by ann@ops: asked the payer"
    )
    assert word(orders.hold(running(discovered().after).after, detail=ANN, now=NOW).after) == (
        "it is running, by ann@ops: asked the payer"
    )


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ("retry", "that it is retried now, whatever its policy says"),
        ("hold", "that it is held"),
        ("release", "that it goes on"),
        ("cancel", "that no further attempt is made"),
    ],
)
def test_a_story_tells_what_a_person_decided(decision: str, words: str) -> None:
    """Who, what, why; and what is left to be done."""
    wanted = orders.hold(running(discovered().after).after, detail=ANN, now=NOW).after
    facts = {"decision": decision, "by": "ann@ops", "why": "asked the payer"}
    events = [
        StoredEvent(NOW, "execution_discovered", "root", {}),
        StoredEvent(NOW, "person_decided", "root", facts),
    ]
    story = "\n".join(plain(tell(wanted, events, NOW)))
    assert f"ann@ops decided {words}: asked the payer" in story
    assert "a person wants it held when its attempt has ended (ann@ops: asked the payer)" in story
