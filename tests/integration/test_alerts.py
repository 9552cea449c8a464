"""Alerts over a real ledger and a real receiver: said once, nothing lost, whoever is killed when."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tests.support.commands import Command
from tests.support.full_ledger import fill
from tests.support.receiver import Receiver, receiver
from tests.support.redis_server import kill, redis_server, revive
from worker.alerting import delivery, turn
from worker.alerting.courier import Courier
from worker.alerting.turn import Alerter, take_leave
from worker.alerting.watch import Watch
from worker.domain import alert_conditions, alerts
from worker.domain.alerts import Kind, Rules
from worker.domain.lineage import State
from worker.ledger import Connection, Ledger, LedgerFormatError
from worker.ledger import alerts as ledger_alerts
from worker.ledger.alerts import Alerts, signs_of_life
from worker.ledger.reports import Reports
from worker.ledger.scripts import Call, run, script

RULES = Rules(link="https://kinetic.example.com/executions/{execution_uuid}")
NO_TIME = timedelta(0)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for in life is not waited for here."""
    for module, name in (
        *((turn, each) for each in ("SERVE_GAP", "WORKER_GAP")),
        *((alerts, each) for each in ("GATHER_FOR", "GATHER_BEHIND")),
        (delivery, "FIRST_PAUSE"),
    ):
        monkeypatch.setattr(module, name, NO_TIME)


@pytest.fixture
def person() -> Iterator[Receiver]:
    with receiver() as here:
        yield here


@pytest.fixture
async def other(redis_url: str, namespace: str) -> AsyncIterator[Ledger]:
    """The same ledger, as another process has it."""
    ledger = Ledger(Connection(redis_url), namespace, events_maxlen=10_000)
    yield ledger
    await ledger.aclose()


class Killed(BaseException):
    """The process ends here."""


def alerter(ledger: Ledger, *urls: str, rules: Rules = RULES, works: bool = False) -> Alerter:
    return Alerter(ledger, rules, Courier(urls, within_s=5), structlog.get_logger("alerts"), works=works)


async def give_up(ledger: Ledger, count: int, *workflows: str, event: str = "retries_exhausted") -> None:
    """Put so many verdicts into the stream, as commits do."""
    commands: list[tuple[object, ...]] = []
    for number in range(count):
        whose = workflows[number % len(workflows)]
        data = json.dumps(
            {
                "execution_uuid": str(uuid.uuid4()),
                "workflow_uuid": whose,
                "workflow_name": f"Claims of {whose}",
                "reason": "attempts_used_up" if number % 7 else "deadline_passed",
            }
        )
        root = str(uuid.uuid4())
        commands.append(("XADD", ledger.keys.events, "*", "event", event, "root", root, "data", data))
    await ledger.connection.pipelined(commands)


async def test_five_thousand_dead_letters_of_three_workflows_are_three_messages(
    ledger: Ledger, person: Receiver
) -> None:
    """However often it is looked; later ones are one message per workflow when the window is over."""
    ours = alerter(ledger, person.url)
    await give_up(ledger, 10, "old")
    await ours.turn()
    assert person.got == [], "what happened before alerts were turned on is old news"
    await give_up(ledger, 5000, "a", "b", "c")
    for _ in range(3):
        await ours.turn()
    assert sorted(person.titles) == [
        "[kinetic-retry] 1,666 dead letters: Claims of c",
        "[kinetic-retry] 1,667 dead letters: Claims of a",
        "[kinetic-retry] 1,667 dead letters: Claims of b",
    ]
    assert "https://kinetic.example.com/executions/" in person.got[0]["message"]
    assert person.got[0]["type"] == "failure"
    await give_up(ledger, 600, "a", "b")
    await ours.turn()
    assert len(person.got) == 3
    await alerter(ledger, person.url, rules=Rules(window=NO_TIME)).turn()
    assert sorted(person.titles[3:]) == [
        "[kinetic-retry] 300 dead letters: Claims of a",
        "[kinetic-retry] 300 dead letters: Claims of b",
    ]


async def test_what_commits_tell_is_what_people_hear(ledger: Ledger, person: Receiver) -> None:
    """With the worker's own events: every dead letter is counted in some message, and nothing else is."""
    ours = alerter(ledger, person.url)
    await ours.turn()
    await fill(ledger, 400)
    await ours.turn()
    memory = await Alerts(ledger).memory()
    assert memory
    assert 0 < len(person.got) <= alerts.MOST_AT_ONCE
    ended = (await Reports(ledger).summary()).states[State.EXHAUSTED]
    events = await Reports(ledger).events_since("-", limit=10_000)
    assert sum(event.name == "retries_exhausted" for _, event in events) == ended
    text = json.dumps(person.got)
    assert "recovered" not in text
    assert "scheduled" not in text


async def test_two_alerters_at_the_same_time_say_it_once(
    ledger: Ledger, other: Ledger, person: Receiver
) -> None:
    """Workers and `serve` all look; the turn in the ledger decides."""
    await alerter(ledger, person.url).turn()
    await give_up(ledger, 50, "a")
    many = [alerter(each, person.url, works=works) for each in (ledger, other) for works in (True, False)]
    for _ in range(3):
        await asyncio.gather(*(each.turn() for each in many))
    assert person.titles == ["[kinetic-retry] 50 dead letters: Claims of a"]


async def test_killed_between_sending_and_noting_repeats_one_and_loses_none(
    ledger: Ledger, person: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one message that was on its way comes twice; all others once."""
    await alerter(ledger, person.url).turn()
    await give_up(ledger, 30, "a", "b", "c")
    save = Alerts.save

    async def die(self: Alerts, *arguments: Any) -> bool:
        if arguments[-1]:
            raise Killed
        return await save(self, *arguments)

    monkeypatch.setattr(Alerts, "save", die)
    with pytest.raises(Killed):
        await alerter(ledger, person.url).turn()
    monkeypatch.setattr(Alerts, "save", save)
    for _ in range(2):
        await alerter(ledger, person.url).turn()
    assert len(person.titles) == 4
    assert len(set(person.titles)) == 3


async def test_killed_before_sending_loses_nothing(
    ledger: Ledger, person: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events were read and the cursor has moved: the message is on record."""
    await alerter(ledger, person.url).turn()
    await give_up(ledger, 30, "a")

    send = Courier.send

    async def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(Courier, "send", die)
    with pytest.raises(Killed):
        await alerter(ledger, person.url).turn()
    monkeypatch.setattr(Courier, "send", send)
    await alerter(ledger, person.url).turn()
    assert person.titles == ["[kinetic-retry] 30 dead letters: Claims of a"]


async def test_who_lost_the_turn_says_nothing(
    ledger: Ledger, other: Ledger, person: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stood still past its lease must not say what another one has said meanwhile."""
    await alerter(ledger, person.url).turn()
    await give_up(ledger, 30, "a")
    news = Alerts.news

    async def stand_still(self: Alerts, *arguments: Any) -> Any:
        found = await news(self, *arguments)
        if self._ledger is ledger:
            await other.connection.command("HDEL", other.keys.job("alert"), "owner", "until")
            await alerter(other, person.url).turn()
        return found

    monkeypatch.setattr(Alerts, "news", stand_still)
    assert await alerter(ledger, person.url).turn() == {"sent": 0, "failed": 0}
    assert len(person.got) == 1


async def test_an_address_that_refuses_holds_up_no_other_and_gets_it_later(
    ledger: Ledger, person: Receiver
) -> None:
    """Kept, tried again, delivered once; who has it does not get it again; no address is in the log."""
    with receiver() as broken:
        broken.status = 500
        ours = alerter(ledger, broken.url, person.url)
        await ours.turn()
        await give_up(ledger, 30, "a")
        with capture_logs() as logs:
            for _ in range(3):
                await ours.turn()
        assert (len(broken.got), len(person.got)) == (0, 1)
        refused = [each for each in logs if each["event"] == "alert_not_sent"]
        assert [each["log_level"] for each in refused] == ["warning", "info", "info"], "loud once"
        assert refused[0]["detail"].startswith("the address at position 1 (json) refused it")
        assert not [word for word in ("T0KEN", "passw0rd", str(broken.port)) if word in str(logs)]
        broken.status = 200
        await ours.turn()
        await ours.turn()
        assert (len(broken.got), len(person.got)) == (1, 1)
    memory = await Alerts(ledger).memory()
    assert memory
    assert (memory.outbox, memory.delivered) == ([], {})


async def test_an_address_that_hangs_blocks_nothing(ledger: Ledger, person: Receiver) -> None:
    """Neither the event loop nor the turn; and if it took the message after all, it does not get it again."""
    carrier = Courier([person.url], within_s=0.2)
    ours = Alerter(ledger, RULES, carrier, structlog.get_logger("alerts"), works=False)
    await ours.turn()
    await give_up(ledger, 30, "a")
    person.open.clear()
    begun_s = time.monotonic()
    assert await ours.turn() == {"sent": 0, "failed": 1}
    assert time.monotonic() - begun_s < 3
    person.open.set()
    async with asyncio.timeout(10):
        while not (await ours.turn() or {}).get("sent"):
            await asyncio.sleep(0.05)
    await ours.turn()
    assert len(person.got) == 1


async def test_a_fresh_ledger_is_no_alarm(ledger: Ledger, person: Receiver) -> None:
    """Nobody has started a worker yet; once it has ticked and stops, that is one."""
    ours = alerter(ledger, person.url, rules=Rules(tick_after=timedelta(seconds=0.2)))
    await ledger.begin(NO_TIME)
    await ours.turn()
    await ours.turn()
    assert person.got == []
    await ledger.jobs.tick("submit", NO_TIME, {})
    await asyncio.sleep(0.3)
    for _ in range(3):
        await ours.turn()
    assert person.titles == ["[kinetic-retry] no worker is working"]
    assert "kinetic-retry check" in person.got[0]["message"]


async def test_a_long_job_is_a_sign_of_life(
    ledger: Ledger, person: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker in the midst of slow calls does not tick, and is not dead."""
    monkeypatch.setattr(ledger_alerts, "SIGN_EVERY_S", 0.05)
    ours = alerter(ledger, person.url, rules=Rules(tick_after=timedelta(seconds=0.6)))
    await ours.turn()
    await ledger.jobs.tick("submit", NO_TIME, {})
    async with signs_of_life(ledger, "submit"):
        await asyncio.sleep(0.8)
        await ours.turn()
    assert person.got == []


async def test_a_closed_gate_is_said_and_so_is_its_end(
    ledger: Ledger, person: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suspended: at once, once, with the API's own reason, and resolved."""
    ours = alerter(ledger, person.url)
    await ours.turn()
    await ledger.gate.suspend("unauthorized", "bad key", timedelta(seconds=60), timedelta(seconds=60))
    for _ in range(3):
        await ours.turn()
    assert person.titles == ["[kinetic-retry] suspended: Kinetic refuses the API key"]
    assert "(unauthorized: bad key)" in person.got[0]["message"]
    await ledger.connection.command("DEL", ledger.keys.gate)
    await ours.turn()
    assert len(person.got) == 1, "a moment of peace is not its end"
    memory = await Alerts(ledger).memory()
    assert memory
    memory.open["suspended"].settle = NO_TIME
    begun = await ledger.jobs.begin("alert", lease=turn.LEASE, gap=NO_TIME, calls_api=False)
    assert not isinstance(begun, str)
    assert await Alerts(ledger).save(begun, memory)
    await ledger.jobs.finish(begun)
    await ours.turn()
    await ours.turn()
    assert len(person.got) == 2
    assert person.titles[1].startswith("[kinetic-retry] resolved: suspended")
    assert person.got[1]["type"] == "success"


async def test_serve_that_is_killed_is_missed_and_one_that_ends_is_not(
    ledger: Ledger, person: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers say it, for `serve` cannot; a rolling update wakes nobody."""
    serve, worker = alerter(ledger, person.url), alerter(ledger, person.url, works=True)
    await serve.turn()
    monkeypatch.setattr(alert_conditions, "SERVE_GONE_AFTER", NO_TIME)
    await worker.turn()
    await worker.turn()
    assert person.titles == ["[kinetic-retry] `serve` is gone"]
    await serve.turn()
    assert await take_leave(ledger)
    person.got.clear()
    await worker.turn()
    memory = await Alerts(ledger).memory()
    assert memory
    assert memory.serve_at is None
    assert person.got == []


async def test_redis_away_is_said_by_serve_alone_and_so_is_its_return(person: Receiver) -> None:
    """From its own memory, since the ledger is what is away: once, and once when it is back."""
    with redis_server() as server:
        ledger = Ledger(Connection(f"redis://127.0.0.1:{server.port}/0"), "away", events_maxlen=100)
        log = structlog.get_logger("serve")
        watch = Watch(ledger, RULES, Courier([person.url]), log, away_for=timedelta(seconds=0.5))
        await watch.look()
        kill(server)
        async with asyncio.timeout(20):
            while not person.got:
                await watch.look()
                await asyncio.sleep(0.05)
        await watch.look()
        assert person.titles == ["[kinetic-retry] Redis, where the ledger is, cannot be used"]
        assert "nothing is lost" in person.got[0]["message"]
        revive(server)
        watch._own.open["redis"].settle = NO_TIME
        async with asyncio.timeout(20):
            while len(person.got) < 2:
                await watch.look()
                await asyncio.sleep(0.05)
        await watch.look()
        assert len(person.got) == 2
        assert "resolved: Redis" in person.titles[1]
        await watch.leave()
        await ledger.aclose()


async def test_a_ledger_that_cannot_be_read_is_no_outage_of_redis(ledger: Ledger, person: Receiver) -> None:
    """Redis answers: people are not sent to look after it."""
    log = structlog.get_logger("serve")
    watch = Watch(ledger, RULES, Courier([person.url]), log, away_for=NO_TIME)
    await ledger.connection.command("HSET", ledger.keys.ticks, "x", "nonsense")
    await watch.look()
    await watch.look()
    assert person.titles == ["[kinetic-retry] the ledger cannot be read"]


async def test_a_write_that_is_sent_twice_is_one(ledger: Ledger) -> None:
    """Its answer was lost: what was said is not listed twice."""
    begun = await ledger.jobs.begin("alert", lease=turn.LEASE, gap=NO_TIME, calls_api=False)
    assert not isinstance(begun, str)
    keys = [ledger.keys.job("alert"), ledger.keys.alerts, ledger.keys.alerts_said]
    for _ in range(2):
        await run(
            ledger.connection,
            Call(script("note_alerts"), keys, [begun.token, "w", "{}", 1, 10, "x"]),
        )
    assert await ledger.connection.command("LLEN", ledger.keys.alerts_said) == 1


async def test_a_value_that_nothing_encodes_stops_nothing(ledger: Ledger, person: Receiver) -> None:
    """Lone surrogates in the API's texts: alerts go on, and later ones too."""
    ours = alerter(ledger, person.url)
    await ours.turn()
    await give_up(ledger, 1, "bad\ud800w")
    await ours.turn()
    await give_up(ledger, 1, "good")
    await ours.turn()
    assert len(person.titles) == 2


@pytest.mark.parametrize(("key", "value"), [("ticks", "nonsense"), ("ticks", "[]"), ("breakers", "{}")])
async def test_a_damaged_value_is_a_trouble_that_callers_know(ledger: Ledger, key: str, value: str) -> None:
    """Not an error that ends the loop of whoever looks."""
    await ledger.connection.command("HSET", getattr(ledger.keys, key), "x", value)
    with pytest.raises(LedgerFormatError, match="cannot be read"):
        await Reports(ledger).summary()


async def test_a_newer_memory_is_left_alone(ledger: Ledger, person: Receiver) -> None:
    """An older process says so once, and overwrites nothing."""
    stored = {"memory": '{"new": 1}', "format": str(ledger_alerts.FORMAT + 1)}
    for field, value in stored.items():
        await ledger.connection.command("HSET", ledger.keys.alerts, field, value)
    ours = alerter(ledger, person.url)
    with capture_logs() as logs:
        assert [await ours.turn() for _ in range(3)] == [None] * 3
    assert [each["event"] for each in logs] == ["alert_memory_too_new"]
    assert await ledger.connection.command("HMGET", ledger.keys.alerts, *stored) == list(stored.values())
    assert person.got == []


async def test_a_damaged_memory_is_said(ledger: Ledger, person: Receiver) -> None:
    """People must not take silence for peace; said once, then alerts go on."""
    ours = alerter(ledger, person.url)
    await ours.turn()
    await ledger.connection.command("HSET", ledger.keys.alerts, "memory", '{"cursor": 1')
    with capture_logs() as logs:
        await ours.turn()
        await ours.turn()
    assert [each["event"] for each in logs].count("alert_memory_lost") == 1
    assert person.titles == ["[kinetic-retry] the memory of alerts was damaged"]
    await give_up(ledger, 2, "a")
    await ours.turn()
    assert person.titles[1:] == ["[kinetic-retry] 2 dead letters: Claims of a"]


@pytest.mark.parametrize("how", ["trimmed", "long ago"])
async def test_what_nobody_could_hear_of_is_one_message(
    ledger: Ledger, person: Receiver, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Neither silence nor a month of old news: from when to when, and how to list it."""
    ours = alerter(ledger, person.url)
    await give_up(ledger, 1, "old")
    await ours.turn()
    await give_up(ledger, 20, "a", "b")
    if how == "trimmed":
        await ledger.connection.command("XTRIM", ledger.keys.events, "MAXLEN", 5)
    else:
        monkeypatch.setattr(turn, "GIVEN_UP_AFTER", NO_TIME)
    await ours.turn()
    monkeypatch.undo()
    assert len(person.got) == 1
    assert "alerts were off from" in person.titles[0]
    assert "kinetic-retry dead --since 20" in person.got[0]["message"]


async def test_a_busy_stream_that_was_heard_is_no_gap(ledger: Ledger, person: Receiver) -> None:
    """Trimming what everybody has heard of is what a stream is for."""
    ours = alerter(ledger, person.url)
    await give_up(ledger, 1, "old")
    for number in range(3):
        await ours.turn()
        await give_up(ledger, 10, f"w{number}")
        await ours.turn()
        await ledger.connection.command("XTRIM", ledger.keys.events, "MAXLEN", 5)
    await ours.turn()
    assert not [each for each in person.titles if "alerts were off" in each]


async def test_the_commands(
    ledger: Ledger, person: Receiver, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`test` reaches people; `list` shows what is wrong and what was said; without addresses it says so."""
    unset = await command("alert", "test")
    assert unset.code == 2
    assert "ALERT_URLS is not set" in unset.err
    assert "nobody has looked yet" in (await command("alert", "list")).out
    monkeypatch.setenv("ALERT_URLS", person.url)
    tested = await command("alert", "test")
    assert (tested.code, person.titles) == (0, [person.titles[0]])
    assert "test message" in person.titles[0]
    assert "position 1 (json) took it" in tested.out
    monkeypatch.setenv("ALERT_URLS", f"{person.url} nosuchservice://x json://127.0.0.1:1/T0KEN")
    failed = await command("alert", "test", "--json")
    assert failed.code == 1
    assert [each["taken"] for each in json.loads(failed.out)] == [True, False, False]
    assert "T0KEN" not in failed.out + failed.err
    ours = alerter(ledger, person.url)
    await ours.turn()
    await give_up(ledger, 3, "a", event="retry_held")
    await ledger.gate.suspend("unauthorized", "bad key", timedelta(seconds=60), timedelta(seconds=60))
    await ours.turn()
    listed = (await command("alert", "list", "--json")).value
    assert [each["key"] for each in listed["wrong"]] == ["suspended"]
    assert {each["about"] for each in listed["said"]} == {"suspended", Kind.HELD.value}
    shown = (await command("alert", "list")).out
    assert "wrong      suspended: Kinetic refuses the API key" in shown
    assert "3 held failures: Claims of a" in shown
