"""The health of real workers and beats: hung, killed, without Redis."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import Daemons, daemons, wait_until
from tests.support.redis_server import kill, redis_server, revive
from tests.support.simulation import SimulatorHandle, start_simulator

PATIENCE_S = "5"
"""Longer than twice what lies between two signs of life; a minute in earnest."""

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture
def simulator() -> Iterator[SimulatorHandle]:
    with start_simulator() as running:
        yield running


def settings(simulator: SimulatorHandle, port: int, directory: Path) -> dict[str, str]:
    return {
        "KINETIC_BASE_URL": simulator.url,
        "KINETIC_API_KEY": simulator.api_key,
        "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "TMPDIR": str(directory),
        "WORKER_CONCURRENCY": "1",
    }


def health(held: Daemons, role: str, *words: str) -> tuple[int, str]:
    done = held.run("health", role, *words)
    assert not done.stderr
    return done.returncode, done.stdout


def running(directory: Path) -> list[int]:
    """Return the pool processes that the worker says are at work."""
    facts = json.loads((directory / "kinetic-retry-worker.alive").read_text())
    return [each["pid"] for each in facts["running"]]


def test_a_process_that_hangs_in_its_task_turns_the_worker_red(
    tmp_path: Path, simulator: SimulatorHandle
) -> None:
    """The parent's loop turns all the while. Busy with the same task before, it was green."""
    with redis_server() as server, daemons(tmp_path, **settings(simulator, server.port, tmp_path)) as held:
        held.run_until_read()
        simulator.faults({"operation": "*", "kind": "latency", "seconds": 20})
        wait_until(lambda: bool(running(tmp_path)), "a task under way", 30)
        (pid,) = running(tmp_path)
        wait_until(lambda: health(held, "worker")[1].startswith("worker: well, 1 under way"), "a busy worker")
        assert health(held, "worker", "--patience", PATIENCE_S)[0] == 0
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: health(held, "worker", "--patience", PATIENCE_S)[0] == 1, "red", 30)
            said = health(held, "worker", "--patience", PATIENCE_S)[1]
            assert f"process {pid} has hung in" in said, said
        finally:
            os.kill(pid, signal.SIGKILL)  # nobody needs to wait for the end of its calls


def test_an_outage_is_green_and_a_death_is_red(tmp_path: Path, simulator: SimulatorHandle) -> None:
    """Worker and beat, with the truth in words within seconds of each."""
    with redis_server() as server, daemons(tmp_path, **settings(simulator, server.port, tmp_path)) as held:
        held.run_until_read()
        for role in ("worker", "beat"):
            wait_until(lambda role=role: ": well" in health(held, role)[1], "a well one")  # type: ignore[misc]
        kill(server)
        for role in ("worker", "beat"):
            wait_until(lambda role=role: "no broker" in health(held, role)[1], "words", 30)  # type: ignore[misc]
            assert health(held, role)[0] == 0
        revive(server)
        for role in ("worker", "beat"):
            wait_until(lambda role=role: ": well" in health(held, role)[1], "a well one")  # type: ignore[misc]
        for daemon in held.all:
            os.kill(daemon.process.pid, signal.SIGKILL)
            daemon.process.wait()
            code, said = health(held, daemon.role)
            assert (code, f"process {daemon.process.pid} has ended" in said) == (1, True), said
