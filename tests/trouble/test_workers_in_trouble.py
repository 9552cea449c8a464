"""Workers in trouble: killed in part, stopped and continued, without a beat, with wrong messages, replaced.

Each time: work is under way, something happens to the processes or the broker's queue, and then every
failure has its verdict and none was cloned twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.daemons import Daemon, Daemons, daemons, wait_until
from tests.support.redis_server import redis_server
from tests.support.simulation import SimulatorHandle, start_simulator

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

NAMESPACE = "kinetic-retry"
LEASE_S = 4.0
POOL_PROCESSES = 2


@pytest.fixture
def simulator() -> Iterator[SimulatorHandle]:
    with start_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def server_port() -> Iterator[int]:
    with redis_server(appendonly="yes", appendfsync="always") as server:
        yield server.port


@pytest.fixture
def client(server_port: int) -> Iterator[Any]:
    """The server, empty, and empty again afterwards: what was made before the first start is left alone."""
    client = redis.Redis(port=server_port, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def held(tmp_path: Path, client: Any, server_port: int, simulator: SimulatorHandle) -> Iterator[Daemons]:
    simulator.faults({"operation": "retry", "kind": "latency", "seconds": 0.3})
    with daemons(
        tmp_path,
        KINETIC_BASE_URL=simulator.url,
        KINETIC_API_KEY=simulator.api_key,
        KINETIC_TIMEOUT="2s",
        KINETIC_CONNECT_TIMEOUT="1s",
        SUBMIT_LEASE=f"{LEASE_S:.0f}s",
        RESOLVE_GRACE="1s",
        REDIS_URL=f"redis://127.0.0.1:{server_port}/0",
    ) as processes:
        yield processes
    assert "Traceback" not in processes.text()


def under_way(held: Daemons, simulator: SimulatorHandle, failures: int = 30, retries: int = 2) -> None:
    """Start what is not running, make failures and wait for the first clones."""
    if not held.all:
        held.run_until_read()
    before = simulator.record()["clones"]
    workflow = simulator.add_workflow(f"after {retries}", "recovers_after", retries=retries)
    simulator.fail(workflow, failures)
    simulator.wait_until(lambda record: record["clones"] > before + 3)


def settled(held: Daemons, simulator: SimulatorHandle, failures: int = 30) -> None:
    """Wait for the verdicts: all of them recovered, none cloned twice."""
    states = held.settle(failures)
    assert states["recovered"] == failures
    assert sum(states.values()) == failures
    assert simulator.record()["duplicates"] == []


def children(daemon: Daemon) -> list[int]:
    """Return its pool processes, once all of them are there."""
    pids: list[int] = []

    def all_there() -> bool:
        found = subprocess.run(["pgrep", "-P", str(daemon.process.pid)], capture_output=True, check=False)
        pids[:] = [int(pid) for pid in found.stdout.split()]
        return len([pid for pid in pids if lives(pid)]) >= POOL_PROCESSES

    wait_until(all_there, "the pool processes", 20)
    return pids


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.strip().startswith(b"Z")


def test_the_pool_processes_are_killed_and_then_the_parent_alone(
    held: Daemons, simulator: SimulatorHandle
) -> None:
    """In the middle of their calls. What a parent leaves behind ends by itself."""
    under_way(held, simulator)
    for pid in children(held.all[0]):
        os.kill(pid, signal.SIGKILL)
    latest = simulator.record()["clones"]
    simulator.wait_until(lambda record: record["clones"] > latest + 10)
    orphans = children(held.all[0])
    os.kill(held.all[0].process.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(lives, orphans)), "the end of the pool processes", 30)
    held.start("worker")
    settled(held, simulator)
    assert held.events("retry_unresolved")  # it was in the middle of a call


def test_a_worker_sleeps_past_its_leases_while_there_is_no_beat_and_then_two(
    held: Daemons, simulator: SimulatorHandle
) -> None:
    """SIGSTOP of the whole group in the middle of a batch, SIGCONT when others have resolved its calls."""
    under_way(held, simulator)
    held.all[0].signal_group(signal.SIGSTOP)
    held.all[1].signal_group(signal.SIGKILL)
    time.sleep(2)
    held.start("worker")
    held.start("beat")
    held.start("beat")
    time.sleep(LEASE_S)
    held.all[0].signal_group(signal.SIGCONT)
    settled(held, simulator)
    assert held.events("retry_unresolved")  # it was in the middle of a call


def test_messages_are_lost_doubled_and_replayed(
    held: Daemons, simulator: SimulatorHandle, client: Any
) -> None:
    """500 copies of ticks at once, one of an hour ago, and none at all for a while."""
    held.run_until_read()
    held.all[0].signal_group(signal.SIGSTOP)
    wait_until(lambda: client.llen(NAMESPACE) >= 4, "ticks that nobody takes")
    ticks = client.lrange(NAMESPACE, 0, -1)
    old = json.loads(ticks[0])
    old["headers"]["expires"] = "2020-01-01T00:00:00+00:00"
    timeless = json.loads(ticks[-1])
    timeless["headers"]["expires"] = None
    held.all[0].signal_group(signal.SIGCONT)
    under_way(held, simulator)
    copies = (ticks * 500)[:500]
    client.rpush(NAMESPACE, *copies, json.dumps(old), json.dumps(timeless))
    for _ in range(10):
        time.sleep(0.1)
        client.delete(NAMESPACE)
    client.rpush(NAMESPACE, *copies)
    settled(held, simulator)


def test_a_deploy_half_way(held: Daemons, simulator: SimulatorHandle, tmp_path: Path, client: Any) -> None:
    """Another policy, and a record that a newer worker wrote.

    The new policy decides before the next attempt, also about what the old one scheduled. The record is left
    as it is, that is said, and the rest goes on.
    """
    held.env |= {"RETRY_BASE_DELAY": "2s", "RETRY_MAX_DELAY": "2s"}
    held.run_until_read()
    retried, dropped = (simulator.add_workflow(name, "broken") for name in ("Retried", "Dropped"))
    newer, *_ = simulator.fail(retried, 6)
    simulator.fail(dropped, 5)
    wait_until(lambda: client.zcard(f"{{{NAMESPACE}}}:state:scheduled") == 11, "work that is scheduled")
    assert held.all[0].stop() == 0
    key = f"{{{NAMESPACE}}}:lineage:{newer}"
    record = json.dumps({**json.loads(client.get(key)), "format": 99})
    client.set(key, record)
    policies = tmp_path / "policies.toml"
    entry = '[[policy]]\nworkflow = "{}"\n{}\n'
    policies.write_text(
        entry.format("Retried", "max_attempts = 2") + entry.format("Dropped", "enabled = false")
    )
    held.start("worker", RETRY_POLICY_FILE=str(policies))
    states = held.settle(10)
    assert (states["exhausted"], states["rejected"]) == (5, 5)
    reasons = {line["reason"] for line in held.events("retry_rejected") + held.events("retries_exhausted")}
    assert reasons == {"policy_disabled", "attempts_used_up"}
    assert "format 99" in held.events("record_unreadable")[0]["detail"]
    assert client.get(key) == record
    assert simulator.record()["duplicates"] == []


def test_a_ledger_of_a_newer_worker_is_refused(
    held: Daemons, simulator: SimulatorHandle, client: Any
) -> None:
    """Said once by each process that meets it; nothing is sent and nothing is changed."""
    client.hset(f"{{{NAMESPACE}}}:facts", mapping={"started_at": 1, "format": 99})
    before = simulator.record()["requests"]
    held.env["WORKER_CONCURRENCY"] = "1"
    held.start("worker")
    held.start("beat")
    wait_until(lambda: bool(held.events("ledger_too_new")), "a word about it")
    time.sleep(2)
    assert len(held.events("ledger_too_new")) == 1
    assert simulator.record()["requests"] == before
    assert client.keys(f"{{{NAMESPACE}}}:*") == [f"{{{NAMESPACE}}}:facts"]
