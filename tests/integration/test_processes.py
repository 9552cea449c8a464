"""The whole program as it is run: real workers and beats, a real server, the simulator over real HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.daemons import ROOT, Daemons, daemons, wait_until
from tests.support.redis_server import free_port, redis_server
from tests.support.simulation import SimulatorHandle, start_simulator

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

KEY = "canary-key-0123456789"


@pytest.fixture
def simulator() -> Iterator[SimulatorHandle]:
    with start_simulator(api_key=KEY) as running:
        yield running


@pytest.fixture
def held(tmp_path: Path, simulator: SimulatorHandle) -> Iterator[Daemons]:
    with (
        redis_server(appendonly="yes", appendfsync="always") as server,
        daemons(
            tmp_path,
            KINETIC_BASE_URL=simulator.url,
            KINETIC_API_KEY=KEY,
            REDIS_URL=f"redis://127.0.0.1:{server.port}/0",
        ) as processes,
    ):
        yield processes


def started(held: Daemons, workers: int = 1, beats: int = 1) -> None:
    """Start workers and beats and wait until the list was read once: from here on failures are new."""
    for _ in range(workers):
        held.start("worker")
    for _ in range(beats):
        held.start("beat")
    wait_until(lambda: held.status()["ticks"].get("discover") is not None, "the first reading of the list")


def settled(held: Daemons, total: int) -> dict[str, int]:
    """Wait until that many lineages have their verdict and return the counts."""
    ends = ("recovered", "exhausted", "rejected", "cancelled")
    states: dict[str, int] = {}

    def all_have_verdicts() -> bool:
        states.update(held.status()["states"])
        return sum(states[end] for end in ends) >= total

    wait_until(all_have_verdicts, f"{total} verdicts", within_s=90)
    return states


def no_secret_and_no_payload(held: Daemons) -> None:
    """Every line is JSON; the key and the payloads are neither in the log nor in Redis."""
    assert held.lines()
    assert KEY not in held.text()
    assert "member_id" not in held.text()
    for text in everything_in(redis.Redis.from_url(held.env["REDIS_URL"])):
        assert KEY not in text
        assert "member_id" not in text


def everything_in(client: Any) -> Iterator[str]:
    """Return the name and the content of every key."""
    for key in client.scan_iter():
        yield key.decode()
        match client.type(key):
            case b"string":
                yield repr(client.get(key))
            case b"hash":
                yield repr(client.hgetall(key))
            case b"zset":
                yield repr(client.zrange(key, 0, -1))
            case b"set":
                yield repr(client.smembers(key))
            case b"stream":
                yield repr(client.xrange(key))
            case b"list":
                yield repr(client.lrange(key, 0, -1))
            case b"none":  # gone since the scan named it: the broker's keys come and go while we read
                continue
            case other:
                raise AssertionError(other)


def test_every_failure_gets_its_verdict_and_nothing_is_cloned_twice(
    held: Daemons, simulator: SimulatorHandle
) -> None:
    """Two workers, two beats; chains that recover after 1, 2, 3 and never; clones that fail at once."""
    before_us = simulator.add_workflow("before the first start", "broken")
    simulator.fail(before_us, 5, created_age_s=600)
    started(held, workers=2, beats=2)
    for retries in (1, 2, 3):
        workflow = simulator.add_workflow(f"after {retries}", "recovers_after", retries=retries)
        simulator.fail(workflow, 15)
    simulator.fail(simulator.add_workflow("never", "broken"), 8)
    simulator.fail(simulator.add_workflow("no payload", "recovers_after", retries=2, payloads="null"), 8)
    states = settled(held, 61)
    assert (states["recovered"], states["exhausted"]) == (53, 8)
    assert sum(states.values()) == 61
    record = simulator.record()
    assert record["duplicates"] == []
    assert record["clones"] == 15 * (1 + 2 + 3) + 8 * 4 + 8 * 2  # none of the old failures
    # At least: the list moves on while it is read, and then shows some twice.
    assert max(line["left_alone"] for line in held.events("list_read")) >= 5
    assert {line["task"] for line in held.events("list_read")} == {"kinetic_retry.discover"}
    assert {line["task"] for line in held.events("retry_accepted")} == {"kinetic_retry.submit"}
    no_secret_and_no_payload(held)
    for daemon in held.all:
        assert daemon.stop() == 0
    assert held.lines()  # the last words are JSON too


def test_ambiguous_calls_are_resolved_and_nothing_is_cloned_twice(
    held: Daemons, simulator: SimulatorHandle
) -> None:
    """Half of all calls end unclear, after the commit and before it."""
    held.env |= {
        "RESOLVE_GRACE": "2s",
        "KINETIC_TIMEOUT": "2s",
        "KINETIC_CONNECT_TIMEOUT": "1s",
        "SUBMIT_LEASE": "6s",
    }
    started(held)
    for kind in ("close", "reset", "broken_body"):
        simulator.faults({"operation": "retry", "kind": kind, "when": "after", "probability": 0.2})
    simulator.faults(
        {"operation": "retry", "kind": "status", "status": 500, "when": "before", "probability": 0.2}
    )
    simulator.fail(simulator.add_workflow("after 2", "recovers_after", retries=2), 20)
    states = settled(held, 20)
    assert states["recovered"] == 20
    assert simulator.record()["duplicates"] == []
    assert held.events("retry_unresolved")


def test_a_worker_that_is_killed_loses_nothing_and_repeats_nothing(
    held: Daemons, simulator: SimulatorHandle
) -> None:
    """SIGKILL of the whole process group in the middle of the calls, then a new worker."""
    held.env |= {
        "RESOLVE_GRACE": "1s",
        "KINETIC_TIMEOUT": "2s",
        "KINETIC_CONNECT_TIMEOUT": "1s",
        "SUBMIT_LEASE": "4s",
    }
    started(held)
    simulator.faults({"operation": "retry", "kind": "latency", "seconds": 0.2})
    simulator.fail(simulator.add_workflow("after 1", "recovers_after", retries=1), 60)
    wait_until(lambda: simulator.record()["clones"] > 5, "the first calls")
    held.all[0].signal_group(signal.SIGKILL)
    held.start("worker")
    states = settled(held, 60)
    assert states["recovered"] == 60
    assert simulator.record()["duplicates"] == []


def test_a_wrong_key_is_one_loud_line_and_costs_no_attempt(held: Daemons, simulator: SimulatorHandle) -> None:
    """The worker suspends itself, and resumes by itself when the key is accepted."""
    simulator.faults({"operation": "*", "kind": "unauthorized"})
    held.start("worker")
    held.start("beat")
    wait_until(lambda: bool(held.status()["suspended"]), "the suspension")
    simulator.fail(simulator.add_workflow("after 1", "recovers_after", retries=1), 3)
    simulator.clear_faults()
    assert settled(held, 3)["recovered"] == 3
    assert len(held.events("worker_suspended")) == 1
    assert len(held.events("worker_resumed")) == 1


def test_redis_that_comes_up_late_loses_no_failure(tmp_path: Path, simulator: SimulatorHandle) -> None:
    """What failed after the workers' start and before Redis was there is retried."""
    port = free_port()
    with daemons(
        tmp_path, KINETIC_BASE_URL=simulator.url, KINETIC_API_KEY=KEY, REDIS_URL=f"redis://127.0.0.1:{port}/0"
    ) as held:
        held.start("worker")
        held.start("beat")
        wait_until(lambda: all(daemon.output.stat().st_size for daemon in held.all), "a word from each")
        simulator.fail(simulator.add_workflow("after 1", "recovers_after", retries=1), 2)
        with redis_server(port=port):
            assert settled(held, 2)["recovered"] == 2
        assert "Traceback" not in held.text()
        assert all(line["event"] for line in held.lines())


def test_both_end_when_told_while_redis_is_away(tmp_path: Path) -> None:
    """No endless wait for the broker, in JSON to the last line, one line of each per episode."""
    with daemons(
        tmp_path,
        KINETIC_BASE_URL="http://127.0.0.1:1",
        KINETIC_API_KEY=KEY,
        REDIS_URL=f"redis://127.0.0.1:{free_port()}/0",
    ) as held:
        worker, beat = held.start("worker"), held.start("beat")
        wait_until(lambda: all(daemon.output.stat().st_size for daemon in held.all), "a word from each")
        assert beat.stop() == 0
        assert worker.stop() == 0
        said = sorted(line["logger"] for line in held.events("broker_unavailable"))
        assert said == ["worker.beat", "worker.consumer"]
        assert "Traceback" not in held.text()


def test_the_pools_own_complaints_are_json_too() -> None:
    """Billiard has a logger of its own that is deaf to the root logger until told otherwise."""
    program = (
        "from worker.celery_app import app; app.log.setup('INFO'); "
        "from billiard.util import get_logger; get_logger().error('Process %r exited', 'p')"
    )
    env = {"KINETIC_BASE_URL": "http://127.0.0.1:1", "KINETIC_API_KEY": KEY, "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stderr)["event"] == "Process 'p' exited"


@pytest.mark.parametrize("whole_group", [False, True], ids=["to the parent", "to the whole group"])
def test_a_warm_stop_leaves_nothing_submitting(
    held: Daemons, simulator: SimulatorHandle, whole_group: bool
) -> None:
    """SIGTERM in the middle of a batch: what is under way ends and is recorded, the rest waits."""
    started(held)
    simulator.faults({"operation": "retry", "kind": "latency", "seconds": 0.3})
    simulator.fail(simulator.add_workflow("after 1", "recovers_after", retries=1), 200)
    wait_until(lambda: simulator.record()["clones"] > 20, "the first calls")
    if whole_group:
        held.all[0].signal_group(signal.SIGTERM)
    assert held.all[0].stop() == 0
    assert "Traceback" not in held.text()
    states = held.status()["states"]
    assert states["submitting"] == 0
    assert states["scheduled"] > 0
    held.start("worker")
    settled(held, 200)
    assert simulator.record()["duplicates"] == []
