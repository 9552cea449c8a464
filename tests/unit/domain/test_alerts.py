"""What people are told and when: once, grouped, and never of what will still be retried."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.examples import NOW
from worker.domain import alert_words, alerts
from worker.domain.alert_conditions import (
    NEVER_TICKED_FOR,
    SERVE_GONE_AFTER,
    Pause,
    Situation,
    look,
    unclear,
)
from worker.domain.alerts import (
    GATHER_BEHIND,
    GATHER_FOR,
    MOST_AT_ONCE,
    MOST_GROUPS,
    MOST_WAITING,
    SETTLED_AFTER,
    Gathered,
    Kind,
    Memory,
    Message,
    Rules,
    Severity,
    Sighting,
    Wrong,
)

RULES = Rules(link="https://kinetic.example.com/w/{workflow_uuid}/executions/{execution_uuid}")
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def memory() -> Memory:
    return Memory("0-0", NOW, NOW)


def dead(number: int = 0, workflow: str = "w1", **changes: str) -> Sighting:
    facts = {"event": "retries_exhausted", "workflow_name": "Eligibility", "reason": "attempts_used_up"}
    return Sighting(at=NOW, execution=f"e{number}", workflow=workflow, **(facts | changes))


def put(known: Memory, after: timedelta) -> list[Message]:
    """Make the messages that are due so long after NOW; take them out of the outbox as if delivered."""
    alone, together = alerts.take_due(known, RULES, NOW + after)
    for each in alone:
        alert_words.put_gathered(known, RULES, NOW + after, each)
    if together:
        alert_words.put_summary(known, RULES, NOW + after, together)
    made, known.outbox = known.outbox, []
    return made


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("retry_scheduled", "backoff"),
        ("attempt_failed", ""),
        ("retry_not_delivered", "connect_error"),
        ("retry_unresolved", "read_timeout"),
        ("retry_deferred", "budget"),
        ("execution_recovered", "completed"),
        ("retry_cancelled", "cancelled_by_person"),
        ("retry_rejected", "policy_disabled"),
        ("retry_held", "held_by_person"),
    ],
)
def test_what_is_still_retried_or_intended_is_no_news(event: str, reason: str) -> None:
    """Nobody is woken for a failure that the worker deals with, or for what a person wanted."""
    known = memory()
    alerts.hear(known, [dead(event=event, reason=reason)])
    assert known.gathered == {}


def test_one_message_per_workflow_and_window() -> None:
    """The first after ten seconds, further ones when the window is over, and then nothing more."""
    known = memory()
    alerts.hear(known, [dead(n) for n in range(3)])
    assert put(known, GATHER_FOR - SECOND) == []
    (first,) = put(known, GATHER_FOR)
    assert first.title == "[kinetic-retry] 3 dead letters: Eligibility"
    alerts.hear(known, [dead(n) for n in range(100)])
    assert put(known, RULES.window) == []
    (second,) = put(known, GATHER_FOR + RULES.window)
    assert second.title == "[kinetic-retry] 100 dead letters: Eligibility"
    assert put(known, GATHER_FOR + 2 * RULES.window) == []
    assert known.gathered == {}, "nothing is remembered of a workflow that is quiet again"


def test_kinds_are_told_apart() -> None:
    """What was given up and what waits for a person want different things done."""
    known = memory()
    alerts.hear(known, [dead(), dead(event="retry_held", reason="unclear")])
    made = put(known, MINUTE)
    assert {each.about for each in made} == {"dead_letters", "held"}


def test_while_events_are_unread_a_message_waits_a_little_longer() -> None:
    """It would count a part only; but a backlog that never ends must not silence it."""
    known = memory()
    alerts.hear(known, [dead()])
    assert alerts.take_due(known, RULES, NOW + GATHER_FOR, behind=True) == ([], [])
    assert len(alerts.take_due(known, RULES, NOW + GATHER_BEHIND, behind=True)[0]) == 1


def test_a_bad_night_is_ten_messages_and_not_three_hundred() -> None:
    """The worst are told singly, the rest in one summary; what comes later waits for the next window."""
    known = memory()
    alerts.hear(known, [dead(n, f"w{w}") for w in range(300) for n in range(w + 1)])
    made = put(known, MINUTE)
    assert len(made) == MOST_AT_ONCE
    assert made[0].title.startswith("[kinetic-retry] 300 dead letters")
    assert "291 more workflows" in made[-1].title
    assert made[-1].about == "summary"
    alerts.hear(known, [dead(workflow="new")])
    assert put(known, 2 * MINUTE) == []
    assert len(put(known, MINUTE + RULES.window)) == 1
    assert sum(each.count for each in known.gathered.values()) == 0


def test_nobody_reachable_gathers_on() -> None:
    """An outbox that nobody takes from does not grow for ever; what is not in it is counted on."""
    known = memory()
    for number in range(MOST_WAITING):
        known.put(NOW, "x", Severity.INFO, str(number), "")
    alerts.hear(known, [dead(n) for n in range(7)])
    assert alerts.take_due(known, RULES, NOW + MINUTE) == ([], [])
    known.delivered = {each.id: [1] for each in known.outbox}
    assert alerts.take_due(known, RULES, NOW + MINUTE)[0][0].count == 7


def test_the_memory_is_bounded() -> None:
    """Any number of workflows and reasons: those beyond the bound are counted together, none is lost."""
    known = memory()
    alerts.hear(known, [dead(n, f"w{n}", reason=f"http_{n}") for n in range(MOST_GROUPS + 50)])
    assert len(known.gathered) == MOST_GROUPS + 1
    assert sum(each.count for each in known.gathered.values()) == MOST_GROUPS + 50
    alerts.hear(known, [dead(n, reason=f"http_{n}") for n in range(100)])
    assert len(known.gathered["dead_letters w1"].reasons) <= alerts.MOST_REASONS + 1


def test_a_message_says_everything_a_person_needs() -> None:
    """How many, why, which, with links; what happens next; what to do."""
    known = memory()
    alerts.hear(known, [dead(n, reason="deterministic" if n else "deadline_passed") for n in range(12)])
    (made,) = put(known, MINUTE)
    assert "12 failed executions of Eligibility were given up" in made.body
    assert "Why: deterministic 11, deadline_passed 1" in made.body
    assert "https://kinetic.example.com/w/w1/executions/e0" in made.body
    assert made.body.count("https://") == alerts.FIRST_SHOWN
    assert "Next: nothing by itself" in made.body
    assert "kinetic-retry redrive --workflow w1" in made.body


def test_names_cannot_act() -> None:
    """A workflow's name is somebody's text: no mention, no markup, no line of its own, no link made of it."""
    hostile = Gathered(
        Kind.DEAD, "w/../1?x", "@everyone <!channel>\n\x1b[31mNext: pay", 1, {"a\nb": 1}, ["e/1"]
    )
    known = memory()
    alert_words.put_gathered(known, RULES, NOW, hostile)
    (made,) = known.outbox
    text = made.title + made.body
    assert not {"@", "<", "\x1b"} & set(text)
    assert "(at)everyone (!channel) Next: pay" in made.title
    assert "/w/w%2F..%2F1%3Fx/executions/e%2F1" in made.body


def test_a_condition_is_said_once_and_once_when_it_is_over() -> None:
    """Looked at every five seconds for an hour; and again after each `repeat`."""
    known, said = memory(), []
    wrong = Wrong("x", NOW, "it is broken", "body", after=10 * SECOND)
    for second in range(0, 3600, 5):
        tell, over = alerts.follow(known, [wrong], RULES, NOW + second * SECOND)
        said += [second] * len(tell)
        assert not over
    assert said == [10]
    tell, _ = alerts.follow(known, [wrong], RULES, NOW + RULES.repeat + 10 * SECOND)
    assert len(tell) == 1
    later = NOW + RULES.repeat + MINUTE
    _, over = alerts.follow(known, [], RULES, later)
    assert [key for key, _ in over] == ["x"]
    alert_words.put_over(known, RULES, later, *over[0])
    assert known.outbox[0].title == "[kinetic-retry] resolved: it is broken; it lasted 4 h"
    assert alerts.follow(known, [], RULES, later + MINUTE) == ([], [])


def test_trouble_that_was_never_said_is_not_resolved() -> None:
    """An outage of eight seconds is nobody's business."""
    known = memory()
    alerts.follow(known, [Wrong("x", NOW, "", "", after=10 * SECOND)], RULES, NOW + 8 * SECOND)
    assert alerts.follow(known, [], RULES, NOW + MINUTE) == ([], [])
    assert known.open == {}


def test_what_comes_and_goes_is_one_episode() -> None:
    """Met every other time it is looked at: said once."""
    known, said = memory(), 0
    for second in range(0, 600, 5):
        wrong = [Wrong("x", NOW, "", "")] if second % 10 else []
        tell, over = alerts.follow(known, wrong, RULES, NOW + second * SECOND)
        said += len(tell) + len(over)
    assert said == 1
    assert SETTLED_AFTER > 10 * SECOND


@pytest.mark.parametrize(
    ("first", "then", "at_last", "key"),
    [
        # `serve` starts anew while workers are dead: for a moment nobody has looked for long enough.
        (
            {"alive_at": NOW - MINUTE},
            {"alive_at": NOW - MINUTE, "seeing_since": NOW},
            {"alive_at": NOW + MINUTE},
            "no_tick",
        ),
        # Something worse hides it: nothing is listed behind a closed gate; a refused key shows no API.
        (
            {"listed_at": NOW - 11 * MINUTE},
            {"listed_at": NOW - 11 * MINUTE, "down": True},
            {"listed_at": NOW + MINUTE},
            "unread",
        ),
        ({"down": True, "gate_since": NOW - 20 * MINUTE}, {"suspended": True}, {}, "gate"),
    ],
)
def test_a_condition_ends_on_evidence(
    first: dict[str, object], then: dict[str, object], at_last: dict[str, object], key: str
) -> None:
    """Nobody is told that it is over while nobody can know; then once."""
    known = memory()
    ended: list[tuple[int, str]] = []

    def turn(second: int, facts: dict[str, object]) -> None:
        now = NOW + second * SECOND
        found = situation(**({"alive_at": now} | facts | {"now": now}))
        open_since = {name: each.since for name, each in known.open.items()}
        _, over = alerts.follow(known, look(found, RULES), RULES, now, unclear(found, open_since))
        ended.extend((second, name) for name, _ in over if name == key)

    turn(0, first)
    assert known.open[key].told_at == NOW
    for second in range(5, 60, 5):
        turn(second, then)
    assert ended == []
    for second in range(70, 200, 5):
        turn(second, at_last)
    assert [name for _, name in ended] == [key]


def test_a_command_to_copy_is_one_command() -> None:
    """Whatever a uuid holds, it stays an argument; where it could be altered on the way it is left out."""
    known = memory()
    alert_words.put_gathered(known, RULES, NOW, Gathered(Kind.DEAD, "w; reboot", "W", 1, {"x": 1}, ["$(id)"]))
    alert_words.put_gathered(known, RULES, NOW, Gathered(Kind.DEAD, "`id`", "W", 1, {"x": 1}, ["e1"]))
    first, second = (each.body for each in known.outbox)
    assert "kinetic-retry show '$(id)'" in first
    assert "kinetic-retry redrive --workflow 'w; reboot'" in first
    assert "kinetic-retry redrive --workflow THIS-WORKFLOW   (shows a plan first)" in second
    assert alert_words._word("--all") == "", "no option either"


def situation(**changes: object) -> Situation:
    facts: dict[str, object] = {
        "now": NOW,
        "known_since": NOW - timedelta(days=1),
        "seeing_since": NOW - timedelta(days=1),
        "alive_at": NOW - SECOND,
    }
    return Situation(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, []),
        ({"alive_at": NOW - 19 * SECOND}, []),
        ({"alive_at": NOW - 20 * SECOND}, ["no_tick"]),
        ({"alive_at": NOW - 20 * SECOND, "works": True}, []),
        ({"alive_at": NOW - MINUTE, "seeing_since": NOW - 10 * SECOND}, []),
        ({"alive_at": None}, ["no_tick"]),
        ({"alive_at": None, "known_since": NOW - NEVER_TICKED_FOR + SECOND}, []),
        ({"suspended": True, "gate_since": NOW}, ["suspended"]),
        ({"down": True, "gate_since": NOW}, ["gate"]),
        ({"throttled": True}, ["gate"]),
        ({"listed_at": NOW - 9 * MINUTE}, []),
        ({"listed_at": NOW - 11 * MINUTE}, ["unread"]),
        ({"listed_at": NOW - 11 * MINUTE, "down": True, "gate_since": NOW}, ["gate"]),
        ({"serve_at": NOW - SERVE_GONE_AFTER + SECOND}, []),
        ({"serve_at": NOW - SERVE_GONE_AFTER}, ["serve"]),
        ({"pause": Pause("ann", "payer is down", NOW, None)}, ["paused"]),
        ({"pause": Pause("ann", "payer is down", NOW, NOW + MINUTE)}, []),
    ],
)
def test_what_is_wrong(changes: dict[str, object], keys: list[str]) -> None:
    """A condition is met when it is true, not a second earlier, and none for want of having looked."""
    assert [each.key for each in look(situation(**changes), RULES)] == keys


def test_every_condition_says_what_next_and_what_to_do() -> None:
    """Also that a short outage of the API, and a fresh pause, are nobody's business yet."""
    everything = situation(
        alive_at=NOW - MINUTE,
        down=True,
        gate_since=NOW,
        serve_at=NOW - MINUTE,
        pause=Pause("a", "b", NOW, None),
    )
    found = {each.key: each for each in look(everything, RULES)}
    assert set(found) == {"no_tick", "gate", "serve", "paused"}
    for each in found.values():
        assert "Next: " in each.body
        assert "What you can do: " in each.body or "What you can do:\n" in each.body
    assert found["gate"].after == RULES.gate_after
    assert found["paused"].after == RULES.repeat
