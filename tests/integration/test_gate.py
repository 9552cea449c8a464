"""The gate before the API on a real server: who closes it, what leaves while it is closed, how it opens."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.support.examples import NOW, discovered, execution, submitting
from worker.domain import outage
from worker.domain.lineage import State
from worker.domain.transitions import Change
from worker.ledger import ANY, Ledger, Outcome
from worker.ledger.clock import to_ms
from worker.ledger.gate import LONGEST_PAUSE, Answers, Closed, ClosingRule, Failure, Heard

MINUTE = timedelta(minutes=1)
LEASE = timedelta(minutes=2)
RULE = ClosingRule(timedelta(seconds=10), timedelta(seconds=1), timedelta(seconds=15))


async def fails(ledger: Ledger, *, answered: int = 0, ago: timedelta = timedelta(0)) -> Heard:
    failure = Failure(ledger.clock.now() - ago, retry=True, reason="connect_error", detail="no connection")
    return await ledger.gate.report(Answers(answered), failure, RULE)


async def answers(ledger: Ledger, count: int = 1) -> Heard:
    return await ledger.gate.report(Answers(count, count), None, RULE)


async def goes_down(ledger: Ledger) -> None:
    while await fails(ledger) is not Heard.CLOSED:
        pass


async def set_back(ledger: Ledger, field: str, by: timedelta) -> None:
    """Let time pass for one field of the gate."""
    stored = int(await ledger.connection.command("HGET", ledger.keys.gate, field))
    await ledger.connection.command("HSET", ledger.keys.gate, field, stored - int(by.total_seconds() * 1000))


async def first_pause(ledger: Ledger) -> timedelta:
    """Return how long after it was closed the gate may be probed first."""
    since, probe_at = await ledger.connection.command("HMGET", ledger.keys.gate, "since", "probe_at")
    return timedelta(milliseconds=int(probe_at) - int(since))


async def due(ledger: Ledger, count: int) -> list[Change]:
    """Store that many lineages that are due and return their intents."""
    now = ledger.clock.now()
    changes = [discovered(execution(f"e{n}")) for n in range(count)]
    for change in changes:
        await ledger.commit(change, next_at=NOW)
    return [submitting(change.after, now=now) for change in changes]


async def test_a_closed_gate_stops_claims_and_intents(ledger: Ledger) -> None:
    """Also the intent of a worker that claimed before the gate closed."""
    await ledger.commit(discovered())
    assert await ledger.gate.pause("rate_limited", MINUTE)
    assert not await ledger.gate.pause("rate_limited", timedelta(seconds=1))  # never shortens
    claim = await ledger.claim(State.SCHEDULED, limit=1, hide_for=MINUTE)
    assert (claim.members, claim.gate) == ((), "paused")
    intent = submitting(discovered().after)
    assert await ledger.commit(intent, admission=ANY) is Outcome.GATED
    assert await ledger.gate.suspend("unauthorized", "", timedelta(0), MINUTE)
    assert (await ledger.claim(State.SCHEDULED, limit=1, hide_for=MINUTE)).gate == "suspended"
    assert (await ledger.read(["root"]))["root"] == discovered().after


async def test_a_few_failures_close_the_gate_for_everyone(ledger: Ledger) -> None:
    """The fifth of five does, whichever worker reports it, and it is told so; later ones are told it was."""
    assert [await fails(ledger) for _ in range(4)] == [Heard.OPEN] * 4
    assert await fails(ledger) is Heard.CLOSED
    assert await fails(ledger) is Heard.WAS_CLOSED
    gate = await ledger.gate.look()
    assert (gate.closed, gate.reason, gate.detail) == (Closed.DOWN, "connect_error", "no connection")
    intents = await due(ledger, 1)
    assert await ledger.commit(intents[0], admission=ANY) is Outcome.GATED
    for state in (State.SCHEDULED, State.RUNNING, State.UNRESOLVED):
        assert (await ledger.claim(state, limit=1, hide_for=MINUTE)).gate == "down"
    for job in ("discover", "resolve"):
        assert await ledger.jobs.begin(job, lease=MINUTE, gap=timedelta(0), calls_api=True) == "down"


async def test_failures_among_answers_close_nothing(ledger: Ledger) -> None:
    """Half of all calls failing is no outage: executions fail in their own ways."""
    for _ in range(50):
        await answers(ledger)
        assert await fails(ledger) is Heard.OPEN


async def test_an_outage_in_the_middle_of_good_work_is_noticed_by_some_20_failures(
    ledger: Ledger,
) -> None:
    """However much went well before: it is the newest calls that count."""
    await answers(ledger, 10_000)
    failures = 1
    while await fails(ledger) is Heard.OPEN:
        failures += 1
    assert failures == 19


async def test_answered_looks_do_not_hide_a_dead_retry_endpoint(ledger: Ledger) -> None:
    """GETs by the hundred are answered, and not one retry call."""
    failures = 0
    while await fails(ledger, answered=200) is Heard.OPEN:
        failures += 1
        assert failures < 20


async def test_a_clock_that_is_put_back_blinds_nobody(ledger: Ledger) -> None:
    """What was written an hour ahead: no rest, no place and no answer lasts until then."""
    hour = timedelta(hours=1)
    await answers(ledger, 1)
    ahead = to_ms(ledger.clock.now() + 2 * hour)
    for field in ("answered_begun", "retry_answered_begun", "until", "opening_since"):
        await ledger.connection.command("HSET", ledger.keys.gate, field, ahead)
    await due(ledger, 3)
    claim = await ledger.claim(State.SCHEDULED, limit=3, hide_for=MINUTE, lease=LEASE)
    assert (claim.gate, len(claim.members)) == ("opening", 1)
    await ledger.connection.command("HDEL", ledger.keys.gate, "opening_since")
    while await fails(ledger, ago=timedelta(seconds=-1)) is Heard.OPEN:
        pass
    key = ledger.keys.job("x")
    await ledger.connection.command("HSET", key, "owner", "o", "until", ahead, "begun_at", ahead)
    assert not isinstance(
        await ledger.jobs.begin("x", lease=MINUTE, gap=timedelta(seconds=1), calls_api=False), str
    )


async def test_failures_far_apart_close_nothing(ledger: Ledger) -> None:
    """One execution that always answers 500 must not stop the others."""
    for _ in range(20):
        assert await fails(ledger) is Heard.OPEN
        await set_back(ledger, "retry_heard_at", timedelta(seconds=11))


async def test_one_worker_probes_at_a_time_and_ever_less_often(ledger: Ledger) -> None:
    """The pauses double up to the longest."""
    await goes_down(ledger)
    first = await first_pause(ledger)
    assert first == timedelta(seconds=1)
    pauses = []
    for _ in range(6):
        assert not await ledger.gate.claim_probe(RULE.longest_pause)
        await set_back(ledger, "probe_at", timedelta(hours=1))
        before = to_ms(ledger.clock.now())
        assert await ledger.gate.claim_probe(RULE.longest_pause)
        probe_at = int(await ledger.connection.command("HGET", ledger.keys.gate, "probe_at"))
        pauses.append(round((probe_at - before) / 1000))
    assert pauses == [2, 4, 8, 15, 15, 15]


async def test_a_key_that_may_read_but_not_retry_does_not_hammer_the_api(ledger: Ledger) -> None:
    """Each suspension soon after an opening waits twice as long for its first probe."""
    pauses = []
    for _ in range(4):
        assert await ledger.gate.suspend("forbidden", "", timedelta(seconds=10), MINUTE)
        pauses.append((await first_pause(ledger)).total_seconds())
        assert await ledger.gate.open()
    assert pauses == [10, 20, 40, 60]
    await set_back(ledger, "opened_at", timedelta(minutes=11))
    await ledger.gate.suspend("forbidden", "", timedelta(seconds=10), MINUTE)
    assert (await first_pause(ledger)).total_seconds() == 10
    assert await ledger.gate.open()
    assert await ledger.gate.open() is None


async def test_the_gate_opens_by_steps(ledger: Ledger) -> None:
    """One call at first; one more with every answer, doubled in a second at most; whoever calls."""
    await goes_down(ledger)
    opened = await ledger.gate.open()
    assert opened
    assert opened[0] is Closed.DOWN
    intents = await due(ledger, 12)

    async def fitting() -> int:
        nonlocal intents
        outcomes = await asyncio.gather(*(ledger.commit(each, admission=ANY) for each in intents))
        intents = [each for each, o in zip(intents, outcomes, strict=True) if o is Outcome.GATED]
        return outcomes.count(Outcome.COMMITTED)

    claim = await ledger.claim(State.SCHEDULED, limit=100, hide_for=MINUTE, lease=LEASE)
    assert (len(claim.members), claim.gate) == (1, "opening")
    assert await fitting() == 1
    assert (await ledger.claim(State.SCHEDULED, limit=100, hide_for=MINUTE, lease=LEASE)).gate == "full"
    await answers(ledger, 3)
    assert await fitting() == 0  # the first second allows one, however many were answered
    await set_back(ledger, "opening_since", timedelta(seconds=1))
    assert await fitting() == 1  # two places, one taken
    await set_back(ledger, "opening_since", timedelta(minutes=1))
    assert await fitting() == 2  # three were answered: four places, whatever the time
    await answers(ledger, 60)
    assert await fitting() == 8
    assert (await ledger.claim(State.SCHEDULED, limit=100, hide_for=MINUTE, lease=LEASE)).gate == "open"
    await answers(ledger)
    assert (await ledger.gate.look()).opening_since is None


async def test_the_first_retry_call_that_fails_closes_an_opening_gate(ledger: Ledger) -> None:
    """GETs work, POSTs do not: one call in vain per opening, ever less often. Failed looks do not count."""
    await goes_down(ledger)
    await ledger.gate.open()
    look = Failure(ledger.clock.now() + timedelta(seconds=1), retry=False, reason="http_500", detail="")
    assert await ledger.gate.report(Answers(), look, RULE) is Heard.OPEN
    assert await fails(ledger, ago=timedelta(seconds=-1)) is Heard.CLOSED
    assert await first_pause(ledger) == timedelta(seconds=2)


async def test_what_was_sent_before_the_gate_opened_is_old_news(ledger: Ledger) -> None:
    """Calls that hung through the outage end after it: they must not close the gate again."""
    await goes_down(ledger)
    await ledger.gate.open()
    for _ in range(10):
        assert await fails(ledger, ago=timedelta(seconds=30)) is Heard.OPEN


async def test_a_failure_is_old_news_when_a_later_call_was_answered(ledger: Ledger) -> None:
    """Calls that hang end in a bunch, long after others showed that the API answers."""
    now = ledger.clock.now()
    answered = Answers(1, 1, begun_at=now, retry_begun_at=now - timedelta(seconds=2))
    await ledger.gate.report(answered, None, RULE)
    for _ in range(30):
        assert await fails(ledger, ago=timedelta(seconds=3)) is Heard.OPEN
        look = Failure(now - timedelta(seconds=1), retry=False, reason="read_timeout", detail="")
        assert await ledger.gate.report(Answers(), look, RULE) is Heard.OPEN
    said = [await fails(ledger, ago=timedelta(seconds=1)) for _ in range(20)]
    assert Heard.CLOSED in said  # a GET that is answered does not speak for POSTs


async def test_an_answer_ends_the_growth_of_the_pauses(ledger: Ledger) -> None:
    """Half of all calls fail: the next closing is the first again."""
    for answered in (0, 0, 1):
        await goes_down(ledger)
        await ledger.gate.open()
        await answers(ledger, answered)
    await goes_down(ledger)
    assert await first_pause(ledger) == RULE.first_probe_in


async def test_a_call_of_a_worker_that_died_does_not_hold_the_only_place(ledger: Ledger) -> None:
    """A place is taken for half a minute at most, and not by what was under way before the gate closed."""
    intents = await due(ledger, 3)
    assert await ledger.commit(intents[0], admission=ANY) is Outcome.COMMITTED
    await goes_down(ledger)
    await asyncio.sleep(0.05)  # before the gate closed, by more than the clocks may differ
    await ledger.gate.open()
    assert await ledger.commit(intents[1], admission=ANY) is Outcome.GATED
    late = [_at(each, ledger.clock.now() + timedelta(milliseconds=100)) for each in intents]
    assert await ledger.commit(late[1], admission=ANY) is Outcome.COMMITTED
    assert await ledger.commit(late[2], admission=ANY) is Outcome.GATED
    index = ledger.keys.state(State.SUBMITTING)
    for root in ("e0", "e1"):
        await ledger.connection.command("ZINCRBY", index, -31_000, root)
    await set_back(ledger, "opening_since", timedelta(minutes=1))
    assert await ledger.commit(late[2], admission=ANY) is Outcome.COMMITTED


async def test_after_a_pause_the_gate_opens_by_steps_too(ledger: Ledger) -> None:
    """429 with Retry-After: whoever asked for a rest is not met by everything that waited."""
    await due(ledger, 5)
    await ledger.gate.pause("rate_limited", timedelta(milliseconds=30))
    while (
        claim := await ledger.claim(State.SCHEDULED, limit=5, hide_for=MINUTE, lease=LEASE)
    ).gate == "paused":
        await asyncio.sleep(0.01)
    assert (claim.gate, len(claim.members)) == ("opening", 1)


@pytest.mark.parametrize(("beyond_ms", "says"), [(-2000, "paused"), (2000, "open")])
async def test_a_pause_from_before_the_clock_was_put_back_holds_up_nobody(
    ledger: Ledger, beyond_ms: int, says: str
) -> None:
    """Neither those who claim work nor those who only look at the gate."""
    until_ms = to_ms(ledger.clock.now() + LONGEST_PAUSE) + beyond_ms
    await ledger.connection.command("HSET", ledger.keys.gate, "until", until_ms)
    assert (await ledger.claim(State.SCHEDULED, limit=1, hide_for=MINUTE)).gate == says
    assert ((await ledger.gate.look()).paused_until is not None) is (says == "paused")


async def test_a_key_that_is_refused_during_an_outage_is_a_suspension(ledger: Ledger) -> None:
    """The probe met 401: the person who looks is told about the key."""
    await goes_down(ledger)
    assert await ledger.gate.suspend("unauthorized", "", timedelta(seconds=5), MINUTE)
    assert (await ledger.gate.look()).closed is Closed.SUSPENDED


@pytest.mark.parametrize("seconds", [1, 600])
async def test_an_api_that_asks_for_a_rest_is_not_probed_before_its_end(ledger: Ledger, seconds: int) -> None:
    """503 with Retry-After in the middle of an outage."""
    await goes_down(ledger)
    await ledger.gate.pause("unavailable", timedelta(seconds=seconds))
    await set_back(ledger, "probe_at", timedelta(hours=1))
    assert not await ledger.gate.claim_probe(RULE.longest_pause)
    await set_back(ledger, "until", timedelta(seconds=seconds))
    assert await ledger.gate.claim_probe(RULE.longest_pause)


def test_ten_minutes_of_outage_are_some_forty_probes() -> None:
    """The promise of `domain.outage`, worked out."""
    at, pause, probes = outage.FIRST_PROBE_IN, outage.FIRST_PROBE_IN, 0
    while at < timedelta(minutes=10):
        probes += 1
        pause = min(pause * 2, outage.LONGEST_PROBE_PAUSE)
        at += pause
    assert probes <= 45


def _at(intent: Change, moment: datetime) -> Change:
    assert intent.after.intent
    recorded = replace(intent.after.intent, lease_until=moment + timedelta(minutes=2))
    return replace(intent, after=replace(intent.after, intent=recorded))
