"""A person's own retry, beside real workers: it is recognised, and nothing is cloned twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import Daemons, daemons, wait_until
from tests.support.redis_server import redis_server
from tests.support.simulation import SimulatorHandle, start_simulator

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.fixture
def simulator() -> Iterator[SimulatorHandle]:
    with start_simulator(api_key="test-key") as running:
        yield running


@pytest.fixture
def held(tmp_path: Path, simulator: SimulatorHandle) -> Iterator[Daemons]:
    with (
        redis_server(appendonly="yes", appendfsync="always") as server,
        daemons(
            tmp_path,
            KINETIC_BASE_URL=simulator.url,
            KINETIC_API_KEY="test-key",
            REDIS_URL=f"redis://127.0.0.1:{server.port}/0",
            RETRY_JOIN="true",
            RETRY_BASE_DELAY="10s",
            RETRY_MAX_DELAY="10s",
            RETRY_JITTER="none",
        ) as processes,
    ):
        yield processes


def retried(simulator: SimulatorHandle, uuid: str) -> str:
    """Retry an execution by hand and return the new one."""
    answer = simulator.api("POST", f"/executions/{uuid}/retry")
    assert answer.status_code == 201
    clone: str = answer.json()["execution_uuid"]
    return clone


def test_a_persons_own_retry_is_recognised_and_nothing_is_cloned_twice(
    held: Daemons, simulator: SimulatorHandle
) -> None:
    """Two workers wait for the backoff; a person retries half of the failures; half of those fail again."""
    healthy = simulator.add_workflow("recovers", "recovers_after", retries=1)
    stubborn = simulator.add_workflow("recovers later", "recovers_after", retries=2)
    held.run_until_read(workers=2)
    failures = [*simulator.fail(healthy, 4), *simulator.fail(stubborn, 4)]
    wait_until(lambda: held.status()["states"]["scheduled"] == 8, "8 scheduled lineages")
    theirs = {uuid: retried(simulator, uuid) for uuid in failures[::2]}
    states = held.settle(8, within_s=90)
    assert (states["recovered"], sum(states.values())) == (8, 8)
    record = simulator.record()
    assert record["duplicates"] == []
    events = held.events("retry_joined")
    assert {(each["root"], each["clone_uuid"]) for each in events} == set(theirs.items())
    ours = [each["root"] for each in held.events("retry_accepted")]
    by_hand_and_done = [uuid for uuid in failures[:4] if uuid in theirs]
    assert not set(ours) & set(by_hand_and_done)
