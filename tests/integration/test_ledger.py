"""The ledger's scripts on a real server: compare-and-set, claims, ownership, and writes sent twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support.examples import discovered, execution, running, submitting
from tests.support.redis_server import redis_server
from worker.domain import transitions
from worker.domain.executions import Status
from worker.domain.lineage import Lineage, State
from worker.ledger import Connection, Ledger, LedgerFormatError, LedgerUnavailable, Outcome
from worker.ledger.reports import Reports


async def stored(ledger: Ledger, root: str = "root") -> Lineage:
    found = (await ledger.read([root]))[root]
    assert isinstance(found, Lineage)
    return found


async def events(ledger: Ledger) -> list[str]:
    return [event.name for _, event in await Reports(ledger).events_since("-")]


async def test_a_commit_writes_record_index_events_and_counts_in_one_step(ledger: Ledger) -> None:
    """What the record says, the indexes, the stream and the counters say too."""
    change = discovered()
    assert await ledger.commit(change) is Outcome.COMMITTED
    summary = await Reports(ledger).summary()
    assert summary.states[State.SCHEDULED] == 1
    assert sum(summary.states.values()) == 1
    assert summary.counters == {"execution_discovered": 1, "retry_scheduled": 1}
    assert summary.next_due is not None
    assert abs(summary.next_due - change.after.due_at) < timedelta(milliseconds=1)  # type: ignore[operator]
    assert await events(ledger) == ["execution_discovered", "retry_scheduled"]


async def test_the_loser_of_a_race_changes_nothing(ledger: Ledger) -> None:
    """Two workers commit the same version: one wins, the other is told."""
    await ledger.commit(discovered())
    lineage = await stored(ledger)
    outcomes = await asyncio.gather(*(ledger.commit(submitting(lineage, token=f"t{n}")) for n in range(5)))
    assert sorted(outcomes) == [Outcome.COMMITTED] + [Outcome.STALE] * 4
    assert (await Reports(ledger).summary()).counters["retry_submitted"] == 1


async def test_a_failure_discovered_twice_is_one_lineage(ledger: Ledger) -> None:
    """Two polls see the same failure."""
    outcomes = await asyncio.gather(*(ledger.commit(discovered()) for _ in range(3)))
    assert outcomes.count(Outcome.COMMITTED) == 1


async def test_a_write_that_is_sent_twice_happens_once(ledger: Ledger) -> None:
    """redis-py sends a timed-out write again: the record recognises it and nothing is counted twice."""
    call = ledger._commits._call(discovered(), None, None)
    script = call.script
    for _ in range(3):
        answer = await ledger.connection.command(
            "EVAL", script.source, len(call.keys), *call.keys, *call.arguments
        )
        assert answer[0] == "committed"
    assert (await Reports(ledger).summary()).counters["execution_discovered"] == 1


async def test_a_clone_belongs_to_one_lineage_for_ever(ledger: Ledger) -> None:
    """Neither another lineage nor a new root can have it, whatever the order."""
    await ledger.commit(discovered())
    await ledger.commit(submitting(discovered().after))
    await ledger.commit(running(discovered().after))
    assert await ledger.owners(["root", "clone-1", "stranger"]) == {"root": "root", "clone-1": "root"}
    assert await ledger.commit(discovered(execution("clone-1"))) is Outcome.TAKEN
    other = discovered(execution("other"))
    await ledger.commit(other)
    await ledger.commit(submitting(other.after))
    assert await ledger.commit(running(other.after, "clone-1")) is Outcome.TAKEN
    await ledger.commit(discovered(execution("a-root")))
    assert await ledger.commit(running(other.after, "a-root")) is Outcome.TAKEN
    assert (await stored(ledger, "other")).state is State.SUBMITTING


async def test_a_claim_hides_what_it_took(ledger: Ledger) -> None:
    """Two claimers never get the same lineage while the claim lasts; the record does not change."""
    for n in range(10):
        await ledger.commit(discovered(execution(f"e{n}")))
    hide = timedelta(seconds=30)
    claims = await asyncio.gather(*(ledger.claim(State.SCHEDULED, limit=4, hide_for=hide) for _ in range(4)))
    members = [member for claim in claims for member in claim.members]
    assert len(members) == len(set(members)) == 10
    assert sorted(claim.remaining for claim in claims) == [0, 0, 2, 6]
    assert (await stored(ledger, "e0")).version == 1


async def test_a_claimer_that_dies_costs_a_wait(ledger: Ledger) -> None:
    """The claim runs out and the lineage is due again, without anybody cleaning up."""
    await ledger.commit(discovered())
    assert (await ledger.claim(State.SCHEDULED, limit=1, hide_for=timedelta(milliseconds=50))).members
    while not (await ledger.claim(State.SCHEDULED, limit=1, hide_for=timedelta(0))).members:
        await asyncio.sleep(0.01)


async def test_one_worker_has_the_turn(ledger: Ledger) -> None:
    """Jobs that must not run twice at a time; one that died is taken over after its lease."""
    lease, gap = timedelta(milliseconds=40), timedelta(0)
    first = await ledger.jobs.begin("discover", lease=lease, gap=gap, calls_api=True)
    assert not isinstance(first, str)
    assert await ledger.jobs.begin("discover", lease=lease, gap=gap, calls_api=True) == "busy"
    while isinstance(
        second := await ledger.jobs.begin("discover", lease=lease, gap=gap, calls_api=True), str
    ):
        await asyncio.sleep(0.01)
    assert not await ledger.jobs.extend(first)
    await ledger.jobs.finish(first, {"lost": True})  # changes nothing: the turn is not ours any more
    assert await ledger.jobs.extend(second)
    await ledger.jobs.finish(second, {"swept_at": 1})
    third = await ledger.jobs.begin("discover", lease=lease, gap=gap, calls_api=True)
    assert not isinstance(third, str)
    assert third.memory == {"swept_at": 1}
    await ledger.jobs.finish(third)
    assert (
        await ledger.jobs.begin("discover", lease=lease, gap=timedelta(hours=1), calls_api=True)
    ) == "early"


async def test_scripts_that_the_server_forgot_are_given_again(ledger: Ledger) -> None:
    """A restart or SCRIPT FLUSH costs a round trip."""
    await ledger.commit(discovered())
    await ledger.connection.command("SCRIPT", "FLUSH")
    outcomes = await asyncio.gather(*(ledger.commit(discovered(execution(f"e{n}"))) for n in range(3)))
    assert set(outcomes) == {Outcome.COMMITTED}


async def test_a_server_that_is_away_is_said_so(namespace: str) -> None:
    """And nothing is taken for done."""
    with redis_server() as server:
        ledger = Ledger(Connection(f"redis://127.0.0.1:{server.port}/0"), namespace, events_maxlen=10)
        await ledger.commit(discovered())
    with pytest.raises(LedgerUnavailable):
        await ledger.commit(submitting(discovered().after))
    await ledger.aclose()


async def test_a_server_out_of_memory_is_said_so(namespace: str) -> None:
    """`noeviction`: writes are refused, nothing half-done is left."""
    with redis_server(maxmemory_policy="noeviction") as server:
        ledger = Ledger(Connection(f"redis://127.0.0.1:{server.port}/0"), namespace, events_maxlen=10)
        await ledger.commit(discovered())
        await ledger.connection.command("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(LedgerUnavailable):
            await ledger.commit(submitting(discovered().after))
        assert (await stored(ledger)).state is State.SCHEDULED
        await ledger.aclose()


async def test_errors_of_redis_carry_no_secret() -> None:
    """The URL's password is in no message."""
    ledger = Ledger(Connection("redis://:canary-password@127.0.0.1:1/0"), "n", events_maxlen=10)
    with pytest.raises(LedgerUnavailable) as caught:
        await ledger.commit(discovered())
    assert "canary" not in repr(caught.value) + str(caught.value) + str(caught.value.__cause__)
    await ledger.aclose()


async def test_the_first_start_is_remembered(ledger: Ledger) -> None:
    """And it is the moment the process began to try, not the moment Redis came up."""
    first = await ledger.begin(timedelta(minutes=5))
    assert timedelta(minutes=5) <= ledger.clock.now() - first < timedelta(minutes=5, seconds=5)
    assert await ledger.begin(timedelta(days=5)) == first


async def test_a_ledger_of_a_newer_worker_is_left_alone(ledger: Ledger) -> None:
    """The old one says so and does nothing."""
    await ledger.begin(timedelta(0))
    await ledger.connection.command("HSET", ledger.keys.facts, "format", 99)
    with pytest.raises(LedgerFormatError, match="format 99"):
        await ledger.begin(timedelta(0))


async def test_what_is_old_enough_is_forgotten_whole(ledger: Ledger) -> None:
    """Record, index and ownership go; what had no date is remembered by name."""
    await ledger.commit(discovered())
    sent = submitting(discovered().after)
    await ledger.commit(sent)
    alive = running(discovered().after)
    await ledger.commit(alive)
    done = transitions.recover(alive.after, now=ledger.clock.now(), ended_at=ledger.clock.now())
    await ledger.commit(done)
    assert await ledger.ended_before(State.RECOVERED, ledger.clock.now() - timedelta(hours=1), 10) == []
    roots = await ledger.ended_before(State.RECOVERED, ledger.clock.now() + timedelta(seconds=1), 10)
    assert roots == ["root"]
    assert await ledger.forget([alive.after]) == 0  # an older version than the record's
    assert await ledger.forget([await stored(ledger)]) == 1
    assert await ledger.owners(["root", "clone-1"]) == {}
    assert sum((await Reports(ledger).summary()).states.values()) == 0


async def test_an_undated_failure_is_never_new_again(ledger: Ledger) -> None:
    """Without a date the next listing would take it for a new one, for ever."""
    from dataclasses import replace

    change = discovered()
    undated = replace(change, after=replace(change.after, dated=False))
    await ledger.commit(undated)
    await ledger.forget([undated.after])
    assert await ledger.owners(["root"]) == {"root": "root"}


async def test_the_story_of_a_lineage_is_its_events_in_order(ledger: Ledger) -> None:
    """Found by any of its executions; other lineages' events are not in it."""
    now = ledger.clock.now()
    change = discovered(execution(updated_at=now), now=now)
    await ledger.commit(change)
    await ledger.commit(discovered(execution("other", updated_at=now), now=now))
    sent = submitting(change.after, now=now)
    await ledger.commit(sent)
    made = execution("clone-1", Status.QUEUED)
    await ledger.commit(transitions.accept(sent.after, made, now=ledger.clock.now(), evidence="201"))
    reports = Reports(ledger)
    lineage = await reports.find("clone-1")
    assert lineage is not None
    names = [event.name for event in await reports.story(lineage)]
    assert names == ["execution_discovered", "retry_scheduled", "retry_submitted", "retry_accepted"]
    assert await reports.find("stranger") is None


async def test_all_keys_share_one_hash_tag(ledger: Ledger) -> None:
    """On a cluster a script's keys must live together."""
    await ledger.begin(timedelta(0))
    await ledger.commit(discovered())
    await ledger.track(["x"])
    await ledger.gate.pause("r", timedelta(seconds=1))
    keys = await ledger.connection.command("KEYS", f"*{ledger.keys.namespace}*")
    assert len(keys) >= 8
    assert all(key.startswith(f"{{{ledger.keys.namespace}}}:") for key in keys)


def test_redis_py_times_out_with_the_error_we_translate() -> None:
    """The translation table names redis-py's own classes."""
    assert isinstance(Connection.translated(RedisTimeoutError("x")), LedgerUnavailable)
